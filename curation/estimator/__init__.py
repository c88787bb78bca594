"""A pre-trained diffusion model as the judge of image quality (the paper's step 4)."""
