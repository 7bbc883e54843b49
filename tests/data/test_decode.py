"""Every kind of file a user may have: what its pixels become, or why it can't be read."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from polytask.data.decode import MAX_PIXELS, decode, read_image, resize, resize_mask
from polytask.errors import DataError


def gradient(height=24, width=16):
    """Smooth colours, so that JPEG changes them little; no two edges alike."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / (width - 1), y * 255 / (height - 1), np.full_like(x, 90)]
    return np.stack(channels, -1).astype(np.uint8)


def saved(picture, name, folder, **options):
    path = folder / name
    picture.save(path, **options)
    return path


def reason(image, place="here"):
    with pytest.raises(DataError) as caught:
        read_image(image, place)
    (fault,) = caught.value.faults
    assert fault.where == place
    return fault.problem


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_colour_is_read_as_it_is(tmp_path, suffix):
    path = saved(Image.fromarray(gradient()), f"a.{suffix}", tmp_path)
    decoded = decode(path, "here")
    np.testing.assert_array_equal(decoded.pixels, gradient())
    assert decoded.changes == ()
    assert decoded.pixels.flags.writeable  # torch warns of arrays that are not


def test_jpeg_is_close_and_grey_keeps_one_channel(tmp_path):
    colour = read_image(saved(Image.fromarray(gradient()), "a.jpg", tmp_path, quality=95), "here")
    assert np.abs(colour.astype(int) - gradient()).mean() < 5
    grey = read_image(saved(Image.fromarray(gradient()[..., 0]), "b.jpg", tmp_path), "here")
    assert grey.shape == (24, 16, 1)


def test_bytes_and_paths_give_the_same_pixels(tmp_path):
    path = saved(Image.fromarray(gradient()), "a.jpg", tmp_path)
    np.testing.assert_array_equal(read_image(path.read_bytes(), "b"), read_image(path, "p"))


def test_16_bits_are_scaled_not_clipped(tmp_path):
    wide = np.array([[0, 128, 129, 257], [32768, 65407, 65408, 65535]], dtype=np.uint16)
    decoded = decode(saved(Image.fromarray(wide), "a.png", tmp_path), "here")
    # 65535 / 255 = 257: a step of the result is 257 steps of the file, rounded at half a step.
    assert decoded.pixels[..., 0].tolist() == [[0, 0, 1, 1], [128, 255, 255, 255]]
    assert decoded.changes == ("16 bits scaled to 8",)


def test_every_8_bit_value_survives_16_bits(tmp_path):
    narrow = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = saved(Image.fromarray(narrow * 257), "a.tiff", tmp_path)
    np.testing.assert_array_equal(read_image(path, "here")[..., 0], narrow)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path, dtype):
    path = saved(Image.fromarray(np.ones((4, 4), dtype)), "a.tiff", tmp_path)
    assert "32-bit" in reason(path)


def test_cmyk_becomes_rgb(tmp_path):
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0] = 255  # all cyan: no red, all green and blue
    path = saved(Image.fromarray(ink, "CMYK"), "a.jpg", tmp_path, quality=100)
    decoded = decode(path, "here")
    assert np.abs(decoded.pixels.astype(int) - [0, 255, 255]).max() <= 4
    assert decoded.changes == ("CMYK converted to RGB",)


def test_palette_becomes_its_colours(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    decoded = decode(saved(picture, "a.png", tmp_path), "here")
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    assert decoded.pixels.tolist() == [[red, green], [green, blue]]
    assert decoded.changes == ("palette converted to RGB",)


def test_one_bit_becomes_black_and_white(tmp_path):
    picture = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    decoded = decode(saved(picture, "a.png", tmp_path), "here")
    assert decoded.pixels[..., 0].tolist() == [[0, 255], [255, 0]]
    assert decoded.changes == ("1 bit converted to grey",)


def test_transparency_is_laid_on_white(tmp_path):
    layered = np.zeros((1, 3, 4), np.uint8)  # black ink: none, half, all
    layered[0, :, 3] = [0, 128, 255]
    decoded = decode(saved(Image.fromarray(layered), "a.png", tmp_path), "here")
    assert decoded.pixels[0, :, 0].tolist() == [255, 127, 0]
    assert decoded.changes == ("transparency laid on white",)


def test_transparency_of_grey_keeps_one_channel(tmp_path):
    layered = np.array([[[0, 0], [0, 255], [100, 255]]], np.uint8)
    decoded = decode(saved(Image.fromarray(layered, "LA"), "a.png", tmp_path), "here")
    assert decoded.pixels.tolist() == [[[255], [0], [100]]]


def test_a_transparent_palette_entry_is_white(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    path = saved(picture, "a.png", tmp_path, transparency=0)
    assert read_image(path, "here").tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    opaque = np.dstack([gradient(), np.full((24, 16), 255, np.uint8)])
    decoded = decode(saved(Image.fromarray(opaque), "a.png", tmp_path), "here")
    np.testing.assert_array_equal(decoded.pixels, gradient())
    assert decoded.changes == ()


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("webp", {"lossless": True})])
def test_the_first_frame_of_an_animation_is_taken(tmp_path, suffix, options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = saved(
        frames[0], f"a.{suffix}", tmp_path, save_all=True, append_images=frames[1:], **options
    )
    decoded = decode(path, "here")
    assert (decoded.pixels == [255, 0, 0]).all()
    assert decoded.changes[-1] == "first of several frames taken"


# What each EXIF orientation says of the stored rows and columns (EXIF 2.32, table of tag 274).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),  # the camera was turned right: shown turned clockwise
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](gradient()))
    decoded = decode(saved(Image.fromarray(stored), "a.png", tmp_path, exif=exif), "here")
    np.testing.assert_array_equal(decoded.pixels, gradient())
    assert decoded.changes == (("turned upright as EXIF says",) if orientation > 1 else ())


def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    path = saved(Image.fromarray(gradient()), "a.png", tmp_path, exif=exif)
    np.testing.assert_array_equal(read_image(path, "here"), gradient())


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_named_as_such(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), f"a.{suffix}", tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert any(word in reason(path) for word in ("truncated", "damaged"))


def test_damaged_bytes_within_a_file_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), "a.png", tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[2000:2200] = bytes(200)
    path.write_bytes(damaged)
    assert "damaged" in reason(path)


def test_what_is_no_image_says_so(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>404 not found</html>")
    assert "0 bytes" in reason(tmp_path / "empty.jpg")
    assert "no known image format" in reason(tmp_path / "page.jpg")
    assert "does not exist" in reason(tmp_path / "none.jpg")
    assert "can't be opened" in reason(tmp_path)


def huge_png(width, height):
    """A valid header of a picture that nobody should unpack, and a few bytes of data."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9000, 9800, 60000])  # below and above Pillow's two thresholds
def test_a_decompression_bomb_is_refused_by_its_header(side):
    assert side * side > MAX_PIXELS
    assert "too large" in reason(huge_png(side, side))


def test_the_place_and_the_file_are_both_named(tmp_path):
    path = tmp_path / "photos" / "7.jpg"
    assert str(path) in reason(path, "shelf.csv:14")
    assert str(path) not in reason(path, str(path))  # once is enough


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n"]),
)
def test_no_bytes_raise_anything_but_a_data_error(body, magic):
    try:
        pixels = read_image(magic + body, "here")
    except DataError:
        return
    assert pixels.dtype == np.uint8


def test_arrays_pass_through_or_are_refused():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(read_image(grey, "a")[..., 0], grey)
    assert "float64" in reason(grey / 255)
    assert "[2, 3, 4]" in reason(np.zeros((2, 3, 4), np.uint8))


def test_a_png_saved_to_memory_needs_no_file():
    stream = io.BytesIO()
    Image.fromarray(gradient()).save(stream, "png")
    np.testing.assert_array_equal(read_image(stream.getvalue(), "zip:a.png"), gradient())


def test_doubling_interpolates_between_pixel_centres():
    step = np.array([[0, 100]], np.uint8)[..., None]
    # Half-pixel centres: outputs lie at −0.25, 0.25, 0.75, 1.25 of the inputs' coordinates.
    assert resize(step, (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]


@given(st.integers(0, 255), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
def test_resizing_keeps_a_flat_picture(value, height, side, channels):
    flat = np.full((height, 7, channels), value, np.uint8)
    assert (resize(flat, side) == value).all()
    assert resize(flat, side).shape == (side, side, channels)


def test_shrinking_does_not_alias():
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[:, ::2] = 255  # stripes finer than the result can show: their mean is what remains
    assert np.abs(resize(fine, 16)[:, 1:-1].astype(int) - 127).max() <= 2


def test_resizing_agrees_with_torch():
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(1).integers(0, 256, (37, 23, 3), dtype=np.uint8)
    for size in [(16, 16), (50, 41)]:
        ours = resize(picture, size)
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(picture).permute(2, 0, 1)[None].double(),
            size,
            mode="bilinear",
            antialias=True,
        )[0].permute(1, 2, 0)
        assert np.abs(ours - theirs.numpy()).max() <= 1.0


def test_masks_resize_by_the_nearest_pixel():
    mask = np.array([[0, 7], [255, 3]], np.uint8)
    np.testing.assert_array_equal(resize_mask(mask, 4), np.kron(mask, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(resize_mask(resize_mask(mask, 6), 2), mask)
    assert resize_mask(np.full((5, 9), 1000, np.int32), (2, 3)).tolist() == [[1000] * 3] * 2
