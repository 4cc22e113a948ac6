"""JHMDB (Jhuang et al. 2013): 15 body joints in clips of 21 actions, as it is released.

    root/
      Rename_Images/<action>/<clip>/00001.png ...            (also .jpg)
      joint_positions/<action>/<clip>/joint_positions.mat    pos_img [2, 15, T], (x, y) in pixels from 1
      splits/<action>_test_split1.txt                        "<clip>.avi 1" trains, "<clip>.avi 2" tests

Split 1 has 268 test clips. The meaning of the lists' numbers is HMDB's convention and was not verified on JHMDB's own
files. Some clips have more pictures than annotated frames; what is over has no truth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
import torch

from zoo.data.images import find_images
from zoo.data.listing import plain_name, read_lines
from zoo.data.sequences import SequenceDataModule, SequenceRecord, Truth, TruthReader
from zoo.errors import DataError
from zoo.spec import VideoSpec

JOINTS = (
    "neck", "belly", "head", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
"""Names of the joints in their order."""

SKELETON = (
    (0, 1), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (7, 3), (8, 4), (9, 5), (10, 6), (11, 7), (12, 8), (13, 9),
    (14, 10),
)  # fmt: skip
"""(joint, parent) of every bone; the belly is the root."""

_SPLITS = {"train": "1", "val": "2"}
_MAX_BYTES = 1 << 20  # a real file has some ten thousand; a compressed one unpacks to a thousand times its size


class Jhmdb(SequenceDataModule):
    """JHMDB's joints; ``"val"`` is the test part of a split (see the module's docstring for the layout)."""

    kind = "keypoints"

    def __init__(
        self,
        root: str | Path,
        spec: VideoSpec | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        split: int = 1,
    ) -> None:
        """As `SequenceDataModule`.

        Args:
            root: the folder that holds Rename_Images/, joint_positions/ and splits/.
            spec: what the model wants.
            batch_size: frames in a run.
            num_workers: processes that decode.
            seed: of nothing here.
            split: which of the three splits into training and test.
        """
        super().__init__(root, spec, batch_size, num_workers, seed)
        if split not in (1, 2, 3):
            raise DataError(f"{self.name} has the splits 1, 2 and 3, not {split!r}.")
        self.split = split

    @property
    def read_truth(self) -> TruthReader:
        return read_joints

    def has_split(self, split: str) -> bool:
        return split in _SPLITS and bool(self._lists())

    def find_sequences(self, split: str) -> tuple[list[SequenceRecord], int]:
        lists = self._lists()
        if not lists:
            raise DataError(
                f"{self.root / 'splits'} holds no list <action>_test_split{self.split}.txt; unpack splits.zip there."
            )
        found, expected = [], 0
        for path in lists:
            action = path.name.removesuffix(self._suffix)
            for clip in self._clips(path, _SPLITS[split]):
                expected += 1
                folder = self.root / "Rename_Images" / action / clip
                frames = tuple(find_images(folder)) if folder.is_dir() else ()
                joints = self.root / "joint_positions" / action / clip / "joint_positions.mat"
                if frames and joints.is_file():
                    found.append(SequenceRecord(f"{action}/{clip}", frames, (joints,) * len(frames)))
        return found, expected

    @property
    def _suffix(self) -> str:
        return f"_test_split{self.split}.txt"

    def _lists(self) -> list[Path]:
        return sorted(path for path in (self.root / "splits").glob(f"*{self._suffix}") if path.name[0] != ".")

    def _clips(self, path: Path, wanted: str) -> list[str]:
        """The clips of a list that are marked ``wanted``."""
        clips = {}
        for number, text in read_lines(path):
            where, (clip, _, mark) = f"{path}, line {number}", text.rpartition(" ")
            clip = clip.strip()
            if mark not in ("0", *_SPLITS.values()) or not clip.endswith(".avi"):
                raise DataError(f"{where}: {text!r} is not '<clip>.avi 1' or '<clip>.avi 2'. Fetch splits.zip again.")
            clip = plain_name(clip.removesuffix(".avi"), where)
            if clip in clips:
                raise DataError(f"{where}: {clip!r} is named twice; every clip counts once. Fetch splits.zip again.")
            clips[clip] = mark
        return [clip for clip, mark in clips.items() if mark == wanted]


def read_joints(record: SequenceRecord, numbers: range) -> list[Truth]:
    """The joints of these frames; None for pictures after the last annotated frame.

    Raises:
        DataError: the clip's file is broken, or annotates more frames than there are pictures.
    """
    path = record.truth[0]
    joints = read_joint_positions(path)
    if len(joints) > len(record.frames):
        raise DataError(
            f"{path} annotates {len(joints)} frames and {record.path} holds {len(record.frames)}; "
            "unpack Rename_Images.tar.gz again."
        )
    return [{"keypoints": torch.from_numpy(joints[n])} if n < len(joints) else None for n in numbers]


def read_joint_positions(path: Path) -> np.ndarray:
    """The joints in a joint_positions.mat, float32 ``[T, 15, 2]``, (x, y) in pixels from 0.

    Raises:
        DataError: there is no such file, or it does not hold ``pos_img`` of the shape ``[2, 15, T]``.
    """
    remedy = "Unpack joint_positions.zip again."
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is larger than joint positions are ({_MAX_BYTES} bytes at most). {remedy}")
        # Numbers only: scipy makes arrays of what a file holds, and runs nothing.
        values = scipy.io.loadmat(path, variable_names=["pos_img"]).get("pos_img")
    except DataError:
        raise
    except Exception as error:  # what broken or hostile bytes make scipy raise is not documented
        raise DataError(f"{path} cannot be read as a MATLAB file ({error or type(error).__name__}). {remedy}") from None
    if isinstance(values, np.ndarray) and values.ndim == 2:  # MATLAB leaves out a last axis of 1
        values = values[:, :, None]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.shape[:2] != (2, len(JOINTS)):
        shape = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else "none"
        raise DataError(f"{path}: pos_img must hold numbers [2, {len(JOINTS)}, frames], found {shape}. {remedy}")
    return np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32) - 1
