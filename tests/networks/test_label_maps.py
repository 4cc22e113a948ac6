"""Masks, keypoints and stripes to soft labels and back: by hand, by Pillow, and as the published scripts draw them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.goldens import load
from zoo.errors import ZooError
from zoo.networks.label_maps import (
    classes_in,
    keypoints_to_labels,
    labels_to_keypoints,
    labels_to_mask,
    mask_to_labels,
    mean_labels,
    resize_bilinear,
    resize_nearest,
    stripes,
    stripes_to_labels,
)


def blocks(height: int = 48, width: int = 64) -> Tensor:
    """A mask of two objects, 2 above and 5 below it to the right, on background."""
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[height // 8 : height // 2, width // 8 : width // 2] = 2
    mask[height // 2 :, width // 2 :] = 5
    return mask


def test_resize_nearest_by_hand() -> None:
    row = torch.arange(5)[None]
    # 5 -> 3: corners at 0, 5/3, 10/3; centres at 5/6, 15/6, 25/6. 3 -> 5: corners at 0, 3/5 ... 12/5.
    assert resize_nearest(row, (1, 3), centres=False).tolist() == [[0, 1, 3]]
    assert resize_nearest(row, (1, 3), centres=True).tolist() == [[0, 2, 4]]
    assert resize_nearest(row[:, :3], (2, 5), centres=False).tolist() == [[0, 0, 1, 1, 2]] * 2
    assert resize_nearest(row[:, :3], (2, 5), centres=True).tolist() == [[0, 0, 1, 2, 2]] * 2


@pytest.mark.parametrize("shape", [(320, 320), (37, 91), (480, 854)])
def test_resize_nearest_is_pillows(shape: tuple[int, int]) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (97, 171), dtype=np.uint8))
    expected = np.array(Image.fromarray(mask.numpy()).resize(shape[::-1], Image.Resampling.NEAREST))
    assert torch.equal(resize_nearest(mask, shape, centres=True), torch.from_numpy(expected))


def test_resize_bilinear_by_hand() -> None:
    """Half as many: the mean of the middle two of each four, and no antialiasing beyond them."""
    row = torch.tensor([[[0.0, 1, 5, 9, 2, 2, 4, 8]]])
    torch.testing.assert_close(resize_bilinear(row, (1, 2)), torch.tensor([[[3.0, 3.0]]]))
    torch.testing.assert_close(resize_bilinear(row[..., :2], (1, 4)), torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


def test_classes() -> None:
    mask = torch.zeros(10, 10, dtype=torch.uint8)
    mask[0, :9] = 7
    mask[3, 0] = 255
    mask[2:4, 1:7] = 3  # 12 pixels
    mask[5, :] = 9
    mask[6, 0] = 9  # 11 pixels
    assert classes_in(mask).tolist() == [0, 3, 7, 9]
    assert classes_in(mask).dtype == torch.uint8
    assert classes_in(torch.full((2, 2), 4)).tolist() == [0, 4]
    assert classes_in(mask, published=True).tolist() == [0, 3]  # of the others, 11 pixels are one too few
    mask[6, 1] = 9
    mask[0, 9], mask[1, :2] = 7, 7
    assert classes_in(mask, published=True).tolist() == [0, 7, 3, 9]  # as they come, row by row
    assert classes_in(torch.ones(4, 4, dtype=torch.int64), published=True).tolist() == [1]


@pytest.mark.parametrize("mask", [torch.zeros(2, 2), torch.zeros(3, 2, 2).int(), torch.zeros(0, 2).int()])
def test_wrong_masks(mask: Tensor) -> None:
    with pytest.raises(ZooError, match="whole numbers"):
        classes_in(mask)


@pytest.mark.parametrize("size", [64, None])
def test_masks_there_and_back(size: int | None) -> None:
    """Objects made of whole cells come back as they were, in a picture that is not square."""
    mask = blocks()
    cells = (8, 8) if size else (6, 8)
    labels, classes = mask_to_labels(mask, cells, size=size)
    assert classes.tolist() == [0, 2, 5]
    assert labels.dtype == torch.float32
    torch.testing.assert_close(labels.sum(0), torch.ones(cells))
    back = labels_to_mask(labels, classes, mask.shape, size=size)
    assert back.dtype == torch.uint8
    # Bilinear maps round the corners of blocks off, but nothing moves.
    assert (back != mask).float().mean() < 0.03
    centre = resize_nearest(mask, cells, centres=True)
    assert torch.equal(resize_nearest(back, cells, centres=True), centre)


def test_masks_of_a_size_that_cells_do_not_divide() -> None:
    mask = blocks(48, 85)
    labels, classes = mask_to_labels(mask, (6, 11))
    assert labels.shape == (3, 6, 11)
    assert labels_to_mask(labels, classes, (48, 85)).shape == (48, 85)


def test_void_and_unknown_pixels() -> None:
    mask = torch.zeros(16, 16, dtype=torch.uint8)
    mask[:8], mask[8:, :8], mask[8:, 8:] = 255, 3, 4
    labels, _ = mask_to_labels(mask, (2, 2), classes=torch.tensor([0, 3], dtype=torch.uint8))
    assert labels.tolist() == [[[1, 1], [0, 0]], [[0, 0], [1, 0]]]


def test_ids_beyond_a_byte() -> None:
    """Part instances have more ids than a byte holds."""
    mask = torch.zeros(8, 16, dtype=torch.int64)
    mask[:, 8:] = 1003
    labels, classes = mask_to_labels(mask, (1, 2))
    assert labels_to_mask(labels, classes, (2, 4)).tolist() == [[0, 0, 1003, 1003]] * 2


def test_the_first_of_equal_labels_wins() -> None:
    assert labels_to_mask(torch.ones(3, 1, 1), torch.tensor([0, 7, 8]), (2, 2)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ZooError, match=r"3 channels.*2 classes"):
        labels_to_mask(torch.ones(3, 1, 1), torch.tensor([0, 7]), (2, 2))


def test_mean_labels() -> None:
    labels = torch.tensor([[[0.9, 0.2]], [[0.1, 0.6]], [[0.0, 0.0]]])
    torch.testing.assert_close(mean_labels(labels, (1, 2)), torch.tensor([0.9, 0.6, 0.0]))


@pytest.mark.parametrize("sigma", ["0.5", "1", "4"])
def test_keypoints_are_drawn_as_published(sigma: str) -> None:
    case = load("time_cycle_jhmdb_pck")
    maps = keypoints_to_labels(case.stored["draw.coord"].T, (40, 40), (40, 40), sigma=float(sigma))
    case.check(f"draw.sigma_{sigma}", maps[1:].permute(1, 2, 0).contiguous())
    assert torch.equal(maps[0], (maps[1:] == 0).all(0).float())


@pytest.mark.parametrize("top", [3, 5])
def test_keypoints_are_read_as_published(top: int) -> None:
    case = load("time_cycle_jhmdb_pck")
    keypoints = labels_to_keypoints(case.stored["coords.maps"].permute(2, 0, 1), (20, 24), top=top)
    assert keypoints.isnan().any()
    case.check(f"coords.top{top}", keypoints.nan_to_num(-1.0).T.contiguous())


def test_keypoints_there_and_back() -> None:
    """A keypoint comes back to within half a cell; one outside or lost is lost. The picture is not square."""
    keypoints = torch.tensor([[100.0, 60.0], [35.0, 90.0], [torch.nan, torch.nan], [-90.0, 20.0], [319.0, 239.0]])
    maps = keypoints_to_labels(keypoints, (40, 40), (240, 320))
    assert maps.shape == (6, 40, 40)
    assert (maps[3:5] == 0).all()
    back = labels_to_keypoints(maps, (240, 320))
    assert back[2:4].isnan().all()
    cell = torch.tensor([8.0, 6.0])
    assert ((back - keypoints)[[0, 1]].abs() <= cell / 2).all()
    peak = labels_to_keypoints(maps, (240, 320), top=1)
    assert peak[0].tolist() == [104.0, 60.0]  # x = 12.5 cells is drawn at 13


def test_keypoints_without_a_width() -> None:
    maps = keypoints_to_labels(torch.tensor([[2.9, 1.2], [-0.5, 0.0], [4.0, 0.0]]), (3, 4), (3, 4), sigma=0)
    assert maps[1].nonzero().tolist() == [[1, 2]]
    assert maps[2].nonzero().tolist() == [[0, 0]]  # int() cuts towards 0
    assert not maps[3].any()


def test_no_keypoints() -> None:
    maps = keypoints_to_labels(torch.zeros(0, 2), (3, 4), (24, 32))
    assert torch.equal(maps, torch.ones(1, 3, 4))
    assert labels_to_keypoints(maps, (24, 32)).shape == (0, 2)


def test_wrong_keypoints() -> None:
    with pytest.raises(ZooError, match=r"\[J, 2\]"):
        keypoints_to_labels(torch.zeros(2, 15), (3, 4), (24, 32))
    with pytest.raises(ZooError, match="top=0"):
        labels_to_keypoints(torch.zeros(2, 3, 4), (24, 32), top=0)


def test_stripes_are_the_published_ones() -> None:
    case = load("contrastive_random_walk_propagation")
    mask = torch.zeros(24, 30, dtype=torch.uint8)
    mask[5:19, 8:20], mask[12:23, 15:27] = 1, 2
    painted = stripes(mask, 10)
    case.check("texture", painted.to(torch.uint8))
    case.check("texture_channels", painted.max()[None] + 1)


def test_stripes_of_small_and_torn_objects() -> None:
    mask = torch.zeros(6, 3, dtype=torch.bool)
    assert not stripes(mask).any()
    mask[1, 0] = mask[3, 1] = True  # two rows, with a gap
    assert stripes(mask).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("size", [96, None])
def test_stripes_as_labels(size: int | None) -> None:
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    mask[:, 16:48] = 9
    mask[0, 0] = 255
    cells = (12, 12) if size else (12, 16)
    labels, classes = stripes_to_labels(mask, cells, size=size)
    assert classes.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert labels.shape == (7, *cells)
    assert torch.equal(labels.sum(0), torch.ones(cells))
    expected = torch.arange(12) // 2 + 1
    assert torch.equal(labels.argmax(0)[:, cells[1] // 2], expected)
    assert not labels.argmax(0)[:, 0].any()
    with pytest.raises(ZooError, match="count=0"):
        stripes_to_labels(mask, cells, count=0)
