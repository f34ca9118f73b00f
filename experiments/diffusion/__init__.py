"""What makes a diffusion model one: schedule of the noise, losses, samplers. Torch only."""
