"""What the repositories of the five base models say of their schedulers and VAEs, as far as training reads it."""

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "trained_betas": None}
_DIFFUSION = {
    **_BETAS,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
_SD35 = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}

# By model key: scheduler/scheduler_config.json.
SCHEDULERS = {
    "sd15": {"_class_name": "PNDMScheduler", **_DIFFUSION},
    "sd21": {"_class_name": "DDIMScheduler", **_DIFFUSION, "prediction_type": "v_prediction"},
    "sdxl": {
        "_class_name": "EulerDiscreteScheduler",
        **_DIFFUSION,
        "prediction_type": "epsilon",
        "interpolation_type": "linear",
        "sample_max_value": 1.0,
        "timestep_spacing": "leading",
        "use_karras_sigmas": False,
    },
    "sd35m": _SD35,
    "sd35l": _SD35,
}

# By model key: what vae/config.json says of the latents' scale. SD 1.5 and 2.1 leave it to the library.
VAES = {
    "sd15": {},
    "sd21": {},
    "sdxl": {"scaling_factor": 0.13025},
    "sd35m": {"scaling_factor": 1.5305, "shift_factor": 0.0609},
    "sd35l": {"scaling_factor": 1.5305, "shift_factor": 0.0609},
}
