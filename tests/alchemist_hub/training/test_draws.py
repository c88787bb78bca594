import torch
from hypothesis import given
from hypothesis import strategies as st

from alchemist_hub.training.draws import Order, draw, seeded
from alchemist_hub.training.recipes import TrainingRecipe


def shown(seed: int, size: int, members: list[int], slots: int) -> list[tuple[int, list[int]]]:
    """The bucket and the rows of every slot; buckets of these sizes hold consecutive rows."""
    rows = torch.arange(sum(members)).split(members)
    order = Order.planned(seed, size, rows, slots)
    return [(bucket, found.tolist()) for bucket, found in map(order.rows, range(slots))]


@given(seed=st.integers(0, 5), rows=st.integers(1, 20), size=st.integers(1, 50))
def test_every_epoch_shows_every_picture_once(seed: int, rows: int, size: int):
    order = [row for _, found in shown(seed, size, [rows], -(-3 * rows // size)) for row in found]
    for start in range(0, 3 * rows, rows):
        assert sorted(order[start : start + rows]) == list(range(rows))


@given(seed=st.integers(0, 5), members=st.lists(st.integers(4, 30), min_size=2, max_size=4))
def test_a_pass_shows_one_bucket_and_each_bucket_has_its_share(seed: int, members: list[int]):
    size, epochs = 4, 8
    slots = sum(count * epochs // size for count in members)
    found = shown(seed, size, members, slots)
    starts = [sum(members[:bucket]) for bucket in range(len(members))]
    for bucket, rows in found:
        assert len(rows) == size
        assert all(starts[bucket] <= row < starts[bucket] + members[bucket] for row in rows)
    for bucket, count in enumerate(members):
        passes = [rows for at, rows in found if at == bucket]
        assert len(passes) == count * epochs // size
        assert {row for rows in passes[: -(-count // size)] for row in rows} == set(
            range(starts[bucket], starts[bucket] + count)
        )


def test_buckets_come_mixed():
    buckets = [bucket for bucket, _ in shown(0, 2, [40, 40], 40)]
    assert buckets != sorted(buckets)
    assert buckets != [0, 1] * 20


def test_epochs_and_seeds_differ_in_order():
    first, second = (rows for _, rows in shown(0, 20, [20], 2))
    ((_, other_seed),) = shown(1, 20, [20], 1)
    assert first != second
    assert first != other_seed


def drawn(step: int = 3, **settings):
    recipe = TrainingRecipe(**{"steps": 10, "learning_rate": 1e-3, "batch_size": 1000, **settings})
    return draw(recipe, step, timesteps=1000, numbers=16)


def test_a_step_is_the_same_whatever_came_before():
    drawn(step=2)
    one, again, next_one = drawn(step=3), drawn(step=3), drawn(step=4)
    for name in ("mirrored_B", "dropped_B", "timestep_B", "spread_BN", "noise_BN"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.equal(one.noise_BN, next_one.noise_BN)
    assert not torch.equal(one.noise_BN, drawn(step=3, seed=1).noise_BN)
    assert not torch.equal(one.noise_BN, one.spread_BN)


def test_captions_are_dropped_as_often_as_asked():
    assert 0.15 < drawn(caption_dropout=0.2).dropped_B.float().mean() < 0.25
    assert not drawn(caption_dropout=0.0).dropped_B.any()
    assert drawn(caption_dropout=1.0).dropped_B.all()


def test_pictures_are_mirrored_only_when_asked():
    assert 0.45 < drawn(flip=True).mirrored_B.float().mean() < 0.55
    assert not drawn(flip=False).mirrored_B.any()


def test_a_flip_or_dropout_setting_does_not_change_the_noise():
    assert torch.equal(drawn(flip=True).noise_BN, drawn(caption_dropout=0.5).noise_BN)


def test_the_timestep_distribution_is_the_recipes():
    spread_out, middle = drawn(timesteps="uniform").timestep_B, drawn(timesteps="logit_normal").timestep_B
    assert middle.float().std() < 0.9 * spread_out.float().std()
    assert (drawn(last_share=0.3).timestep_B == 999).float().mean() > 0.25


def test_generators_of_neighbouring_steps_are_unrelated():
    values = [torch.rand(1, generator=seeded(seed, "step", step)).item() for seed in range(3) for step in range(3)]
    assert len(set(values)) == 9
