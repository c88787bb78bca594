import torch
from hypothesis import given
from hypothesis import strategies as st

from alchemist_hub.training.draws import batch_rows, draw, seeded
from alchemist_hub.training.recipes import TrainingRecipe


@given(seed=st.integers(0, 5), rows=st.integers(1, 20), batch=st.integers(1, 50))
def test_every_epoch_shows_every_picture_once(seed: int, rows: int, batch: int):
    steps = range(-(-3 * rows // batch))
    order = torch.cat([batch_rows(seed, step, batch, rows) for step in steps])[: 3 * rows]
    for epoch in order.split(rows):
        assert sorted(epoch.tolist()) == list(range(rows))


def test_epochs_and_seeds_differ_in_order():
    first, second, other_seed = batch_rows(0, 0, 20, 20), batch_rows(0, 1, 20, 20), batch_rows(1, 0, 20, 20)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other_seed)


def drawn(step: int = 3, rows: int = 10, **settings):
    recipe = TrainingRecipe(**{"steps": 10, "learning_rate": 1e-3, "batch_size": 1000, **settings})
    return draw(recipe, step, rows=rows, timesteps=1000, latent_shape=(4, 2, 2))


def test_a_step_is_the_same_whatever_came_before():
    drawn(step=2)
    one, again, next_one = drawn(step=3), drawn(step=3), drawn(step=4)
    for name in ("index_B", "mirrored_B", "dropped_B", "timestep_B", "spread_BChw", "noise_BChw"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.equal(one.noise_BChw, next_one.noise_BChw)
    assert not torch.equal(one.noise_BChw, drawn(step=3, seed=1).noise_BChw)
    assert not torch.equal(one.noise_BChw, one.spread_BChw)


def test_captions_are_dropped_as_often_as_asked():
    assert 0.15 < drawn(caption_dropout=0.2).dropped_B.float().mean() < 0.25
    assert not drawn(caption_dropout=0.0).dropped_B.any()
    assert drawn(caption_dropout=1.0).dropped_B.all()


def test_pictures_are_mirrored_only_when_asked():
    assert 0.45 < drawn(flip=True).mirrored_B.float().mean() < 0.55
    assert not drawn(flip=False).mirrored_B.any()


def test_a_flip_or_dropout_setting_does_not_change_the_noise():
    assert torch.equal(drawn(flip=True).noise_BChw, drawn(caption_dropout=0.5).noise_BChw)


def test_the_timestep_distribution_is_the_recipes():
    spread_out, middle = drawn(timesteps="uniform").timestep_B, drawn(timesteps="logit_normal").timestep_B
    assert middle.float().std() < 0.9 * spread_out.float().std()
    assert (drawn(last_share=0.3).timestep_B == 999).float().mean() > 0.25


def test_generators_of_neighbouring_steps_are_unrelated():
    values = [torch.rand(1, generator=seeded(seed, "step", step)).item() for seed in range(3) for step in range(3)]
    assert len(set(values)) == 9
