"Wrong calls of edit, personalize and avatar that once were answered late, in Python's words, or not at all"

import numpy as np
import pytest
import torch
from PIL import Image

import lucidteach as lt
from lucidteach.lab.avatar import read_pose
from lucidteach.run.folders import claim
from lucidteach.scene.edit import check_edit, read_mask, read_picture

WORDS = ("a red mug", "a blue mug")


@pytest.mark.parametrize(
    "call",
    [
        lambda: lt.edit(torch.full((3, 64, 64), 0.5), *WORDS, out="", mode="quiet"),
        lambda: lt.avatar("a person", out="", mode="quiet"),
        lambda: lt.create("a red mug", out="", mode="quiet"),
        lambda: lt.personalize(torch.full((4, 3, 64, 64), 0.5), out="", mode="quiet"),
    ],
)
def test_a_folder_without_a_name_is_refused_before_any_work(call):
    with pytest.raises(ValueError, match="out must be the name of a folder"):
        call()


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("x", encoding="utf-8")
    for name in ("a", "a/b", "a/b/c"):
        with pytest.raises(FileExistsError, match="a is a file; name a folder"):
            claim(tmp_path / name, {})
    assert claim(tmp_path / "b" / "c", {}) == "new"


def test_a_picture_without_pixels_a_mask_of_nan_and_the_same_words(tmp_path):
    with pytest.raises(ValueError, match="no pixels"):
        read_picture(torch.zeros(3, 0, 0), 64)
    with pytest.raises(ValueError, match="not finite"):
        read_mask(torch.full((64, 64), torch.nan), 64)
    with pytest.raises(ValueError, match="both 'a red mug'"):
        check_edit("a red mug", "A RED  mug", "dds", {})
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="save a file as RGB"):
        read_picture(tmp_path / "grey.png", 64)


def test_a_pose_that_is_nested_too_deep_is_no_traceback():
    with pytest.raises(ValueError, match="nested too deep.*left_arm=120"):
        read_pose('{"left_arm": ' + "[" * 100_000)
    assert read_pose('{"left_arm": 120}') == {"left_arm": 120}
