"""What happens in a collision: two bodies on a floor, simulated by MuJoCo.

The mover slides or rolls along +x towards a body at rest in the origin, and meets it 1.05 s after it was launched. The
frames are at 1.0 and 0.5 s before the contact, at it, and 0.5 and 1.0 s after it. Until the contact the other body's
mass is of no account, so the five collisions of a mini-batch of mass share all that comes before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from zoo.data.collisions.plan import Collision, Variant, physical
from zoo.data.collisions.shapes import MESHES, REST_HEIGHT, ROUND, SIZE
from zoo.errors import ZooError
from zoo.extras import optional

MOVER_MASS = 300.0  # kg
STEP = 0.002  # seconds
CONTACT = 525  # the step at which the bodies touch
GAP = 250  # steps from one frame to the next
DECIMALS = 5  # of poses; pictures are made of what is written down
_FAR = -40.0  # where the mover is launched to see how far it gets without touching anything


def mujoco() -> ModuleType:
    """The package MuJoCo.

    Raises:
        ZooError: it is not installed.
    """
    return optional("mujoco", "physics", "simulating collisions")


def model_of(pair: tuple[str, str]):
    """The MuJoCo model of two shapes on a floor: geoms ``mover``, ``static``, ``floor``."""
    half = SIZE / 2
    geoms = {
        "sphere": f'type="sphere" size="{half}"',
        "cube": f'type="box" size="{half} {half} {half}"',
    } | {name: f'type="mesh" mesh="{name}"' for name in MESHES}
    meshes = "".join(
        f'<mesh name="{name}" inertia="exact" vertex="{" ".join(f"{v:.9f}" for corner in points for v in corner)}"/>'
        for name, points in MESHES.items()
        if name in pair
    )
    bodies = "".join(
        f'<body name="{role}"><freejoint/><geom name="{role}" {geoms[shape]} mass="{MOVER_MASS}"/></body>'
        for role, shape in zip(("mover", "static"), pair, strict=True)
    )
    floors = "".join(
        f'<pair name="{role} floor" geom1="floor" geom2="{role}" solref="0.01 1" condim="6"/>'
        for role in ("mover", "static")
    )
    return mujoco().MjModel.from_xml_string(
        f"""<mujoco>
        <option timestep="{STEP}" gravity="0 0 -9.81" integrator="implicitfast" cone="elliptic" impratio="10"/>
        <asset>{meshes}</asset>
        <worldbody><geom name="floor" type="plane" size="0 0 1"/>{bodies}</worldbody>
        <contact>{floors}<pair name="both" geom1="mover" geom2="static" condim="3"/></contact>
        </mujoco>"""
    )


@dataclass(frozen=True)
class Motion:
    """What happens in one collision.

    Attributes:
        collision: which one.
        launch: metres between the bodies' centres when the mover sets out.
        contact: seconds from there to the first contact.
        poses: float64 ``[5, 2, 7]``: at each frame, of mover and static body, the position (m) and the quaternion,
            rounded to `DECIMALS`.
    """

    collision: Collision
    launch: float
    contact: float
    poses: np.ndarray


class Scene:
    """Two bodies of given shapes on a floor.

    Args:
        pair: the shapes of what moves and of what stands.

    Raises:
        ZooError: MuJoCo is not installed.
    """

    def __init__(self, pair: tuple[str, str]) -> None:
        self._mj, self.pair = mujoco(), pair
        self._model = model_of(pair)
        self._data = self._mj.MjData(self._model)
        self._unit_inertia = self._model.body_inertia.copy() / MOVER_MASS  # of one kg
        self._geoms = {self._model.geom("mover").id, self._model.geom("static").id}

    def motions(self, variant: Variant, group: list[Collision]) -> list[Motion]:
        """The collisions of a mini-batch of mass, which all are of this variant.

        Raises:
            ZooError: the mover never gets to the other body, or not when it should.
        """
        first = group[0]
        launch = self._find_launch(variant, first.speed, first.friction)
        self._prepare(variant, first.friction)
        self._place(variant, -launch, physical("speed", first.speed))
        before = [self._run(CONTACT - 2 * GAP), self._run(GAP), self._run(GAP)]
        self._require_contact(first, before)
        state = self._data.qpos.copy(), self._data.qvel.copy(), self._data.qacc_warmstart.copy()
        motions = []
        for collision in group:
            self._set_mass(collision.value("mass"))
            self._data.time = CONTACT * STEP
            self._data.qpos, self._data.qvel, self._data.qacc_warmstart = state
            poses = np.stack([*before, self._run(GAP), self._run(GAP)])
            motions.append(Motion(collision, round(launch, DECIMALS), round(CONTACT * STEP, DECIMALS), poses))
        return motions

    def _find_launch(self, variant: Variant, speed: int, friction: int) -> float:
        """Metres from which the mover touches the other body in the step `CONTACT`, and not in the one before.

        How it moves does not depend on where it starts. So it is launched once, far away, and then put beside the other
        body as it arrived: where the two begin to touch is found by halving.
        """
        self._prepare(variant, friction)
        self._place(variant, _FAR, physical("speed", speed))
        self._mj.mj_step(self._model, self._data, CONTACT)
        arrived, velocity = self._data.qpos.copy(), self._data.qvel[0]
        apart, together = -3 * SIZE, 0.0
        for _ in range(40):
            middle = (apart + together) / 2
            self._data.qpos = arrived
            self._data.qpos[0] = middle
            self._mj.mj_fwdPosition(self._model, self._data)
            apart, together = (apart, middle) if self._is_touching() else (middle, together)
        return (arrived[0] - _FAR) - (together + velocity * STEP / 2)

    def _require_contact(self, first: Collision, before: list[np.ndarray]) -> None:
        self._mj.mj_fwdPosition(self._model, self._data)
        moved = np.abs(before[2][1, :3] - before[0][1, :3]).max()
        if not self._is_touching() or moved > 1e-3 or before[2][0, 0] <= before[1][0, 0]:
            raise ZooError(f"{first.name}: the bodies don't meet when they should, and the other moved {moved:g} m.")

    def _is_touching(self) -> bool:
        return any({int(a), int(b)} == self._geoms for a, b in self._data.contact.geom)

    def _prepare(self, variant: Variant, friction: int) -> None:
        model, mu = self._model, physical("friction", friction)
        for role in ("mover", "static"):
            model.pair(f"{role} floor").friction = (mu, mu, 0.005, 0.0001, 0.0001)
        model.pair("both").friction = (0.3, 0.3, 0.005, 0.0001, 0.0001)
        model.pair("both").solref = (0.02, variant.damping)
        self._set_mass(MOVER_MASS)

    def _set_mass(self, mass: float) -> None:
        """Of the static body; all that the engine derives from it is computed anew."""
        body = self._model.body("static").id
        self._model.body_mass[body] = mass
        self._model.body_inertia[body] = mass * self._unit_inertia[body]
        self._mj.mj_setConst(self._model, self._data)
        self._mj.mj_resetData(self._model, self._data)

    def _place(self, variant: Variant, x: float, speed: float) -> None:
        self._mj.mj_resetData(self._model, self._data)
        for k, (place, yaw) in enumerate(((x, variant.mover_yaw), (0.0, variant.static_yaw))):
            if self.pair[k] in ROUND:
                yaw = 0.0
            turn = (math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))
            self._data.qpos[7 * k : 7 * k + 7] = (place, 0, REST_HEIGHT[self.pair[k]], *turn)
        self._data.qvel[0] = speed

    def _run(self, steps: int) -> np.ndarray:
        """Poses ``[2, 7]`` so many steps later."""
        self._mj.mj_step(self._model, self._data, steps)
        return np.round(self._data.qpos.reshape(2, 7), DECIMALS) + 0.0  # no -0.0
