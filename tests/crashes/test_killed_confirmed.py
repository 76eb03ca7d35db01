"""An approval is good for one effect, wherever the process is killed that uses it.

Who comes after a process that was killed finds the approval as it was, and uses it; or finds it
used up, asks for another one, and is told of the effect that is in doubt.
"""

from __future__ import annotations

from pathlib import Path

from execgraph import Engine

from .test_killed_once import Payer


async def approve(payer: Payer, id_: str) -> None:
    """Do as a person does."""
    async with Engine(payer.url, namespace=payer.namespace) as engine:
        await engine.approve(id_, by="ann")


async def test_one_approval_is_one_effect_wherever_the_process_is_killed(
    url: str, tmp_path: Path
) -> None:
    lived = Payer(url, tmp_path, "confirming")
    _, told = await lived.run()
    await approve(lived, told["awaiting"])
    _, told = await lived.run()
    assert (told["gave"], lived.paid) == ("paid", 1)
    ends = []
    for point in range(told["points"]):
        payer = Payer(url, tmp_path, "confirming")
        _, before = await payer.run()
        await approve(payer, before["awaiting"])
        code, _ = await payer.run(point)
        assert code == -9, point
        paid = payer.paid
        _, after = await payer.run()
        used_up = "awaiting" in after
        if used_up:
            assert after["awaiting"] != before["awaiting"], point
            assert payer.paid == paid <= 1, point
            ended = "look whether it happened" not in after["message"]
            assert not ended or paid == 1, "it is told, unless it is known to be done"
        else:
            assert (paid, payer.paid) == (0, 1), point
        ends.append((used_up, paid))
    assert set(ends) == {(False, 0), (True, 0), (True, 1)}, "it was killed at each stage"
