from .hvae_estimator import HVAE as HVAE
