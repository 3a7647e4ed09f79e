"""Questions to any model/guide pair: latents, likelihood, Gibbs chains, layers, traversals, interpolation."""
