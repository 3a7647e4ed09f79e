from .command_group import main as main
