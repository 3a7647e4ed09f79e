"""What training optimises: the program contract, effect handlers, estimates and the ELBO family."""
