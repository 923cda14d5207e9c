import io
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from rwood.cli import app
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_benchmark
from rwood.data import image_sets, pixel_cache, sources
from rwood.data.inventory import inventory
from rwood.data.shared_images import shared_images
from rwood.data.verify import Duplicate, verify

BENCHMARKS = Path(__file__).parents[2] / "studies" / "benchmarks"


@pytest.fixture(autouse=True)
def forget() -> None:
    image_sets._files.cache_clear()
    image_sets._from_files.cache_clear()


def test_a_sound_benchmark(animals: BenchmarkConfig, tmp_path: Path) -> None:
    seen = []
    found = verify(animals, tmp_path, progress=lambda *p: seen.append(p))
    assert found.sound
    assert found.duplicates == ()
    assert list(shared_images(animals, tmp_path)) == []
    assert [(r.key, r.images, r.packed) for r in found.sets] == [
        ("id.train", 24, False),
        ("id.val", 6, False),
        ("id.test", 8, False),
        ("validation.seen", 5, False),
        ("near.near", 5, False),
        ("far.far", 5, False),
    ]
    assert ("id.train", 24, 24) in seen


def test_every_broken_file_is_named(animals: BenchmarkConfig, tmp_path: Path) -> None:
    near = tmp_path / "mine" / "near"
    (near / "near1.jpg").write_bytes((near / "near1.jpg").read_bytes()[:300])
    (near / "near3.jpg").write_text("no image")
    shutil.rmtree(tmp_path / "mine" / "far")
    found = verify(animals, tmp_path)
    assert not found.sound
    by_key = {report.key: report for report in found.sets}
    assert by_key["near.near"].images == 3
    first, second = by_key["near.near"].problems
    assert "near1.jpg is damaged" in first
    assert "near3.jpg is not an image" in second
    assert "far is no folder" in by_key["far.far"].problems[0]


def test_train_images_among_the_test_images_are_reported(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copy(mine / "train" / "dog" / "train2.png", mine / "test" / "dog" / "copy.png")
    Image.open(mine / "train" / "cat" / "train5.png").save(mine / "far" / "other_name.bmp")
    found = verify(animals, tmp_path)
    # the pixels follow from the file's name, so cat and dog share them in these folders
    assert {(d.key, d.image) for d in found.duplicates} == {
        ("id.test", "dog/copy.png"),
        ("far.far", "other_name.bmp"),
    }
    assert isinstance(found.duplicates[0], Duplicate)
    assert found.duplicates[0].id_image.endswith("train2.png")
    assert [d.key for d in found.shared] == ["far.far"]
    assert not found.sound, "an image cannot be ID and OOD"


def test_id_test_images_in_an_ood_set_end_verify_with_1_and_warn_a_run(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copy(mine / "test" / "dog" / "test2.png", mine / "near" / "stray.png")
    [sentence] = shared_images(animals, tmp_path)
    assert sentence.startswith("1 of 6 images looked at in near.near are images of id.test too")
    assert "stray.png = " in sentence
    same = animals.model_copy(update={"far": {"far": animals.id.train}})
    assert "far.far is made of the same set as id.train" in [*shared_images(same, tmp_path)][-1]
    file = tmp_path / "animals.yaml"
    file.write_text(yaml.safe_dump(animals.model_dump(mode="json")))
    done = CliRunner().invoke(app, ["data", "verify", str(file), "--data-root", str(tmp_path)])
    assert done.exit_code == 1
    assert "1 image of OOD sets with the pixels of an ID image" in done.output
    assert "benchmark animals: not sound, see above" in done.output


def test_a_pack_that_no_longer_shows_its_files_is_reported(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    opened = image_sets.open_set(animals.near["near"], animals, tmp_path)
    path = tmp_path / "mine" / "near" / "near0.jpg"
    size = path.stat().st_size
    image = Image.new("RGB", (20, 20), (200, 10, 10))
    image.save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert opened.files is not None
    report = next(r for r in verify(animals, tmp_path).sets if r.key == "near.near")
    assert report.packed
    assert "differs from 1 of its files" in report.problems[0]
    where = pixel_cache.pack_path(opened.files, image_sets.transform_of("", animals), tmp_path)
    where.write_bytes(b"")
    report = next(r for r in verify(animals, tmp_path).sets if r.key == "near.near")
    assert "is not a whole pack" in report.problems[0]


def test_digits_are_sound_and_share_no_image() -> None:
    found = verify(load_benchmark(BENCHMARKS / "digits.yaml"), Path("nowhere"))
    assert found.sound
    assert found.duplicates == ()


KEPT = ("val_cifar10", "val_tin", "test_texture")


def smaller_archive(archive: Path, target: Path) -> Path:
    """The archive with the images of three lists: 3,200 of 89,210."""
    with tarfile.open(archive) as whole, tarfile.open(target, "w") as smaller:
        wanted: set[str] = set()
        for member in whole:
            stream = whole.extractfile(member)
            if stream is None:
                continue
            content = stream.read()
            if Path(member.name).stem in KEPT:
                lines = content.decode().splitlines()
                wanted |= {f"images_classic/{line.split(' ')[0]}" for line in lines}
            elif member.name not in wanted:
                continue
            smaller.addfile(member, io.BytesIO(content))
    return target


@pytest.mark.shared_data
def test_real_images_from_archive_to_pack(shared_data: Path, tmp_path: Path) -> None:
    archive = smaller_archive(shared_data / "cifar10-jpeg.tar.gz", tmp_path / "some.tar")
    root = tmp_path / "data"
    sources.fetch("cifar10-jpeg", root, source=archive)
    plain = load_benchmark(BENCHMARKS / "cifar10-jpeg.yaml").model_dump()
    plain["id"] = dict.fromkeys(("train", "val", "test"), "cifar10-jpeg/val_cifar10")
    plain["near"] = plain["validation"]
    plain["far"] = {"texture": "cifar10-jpeg/test_texture"}
    benchmark = BenchmarkConfig(**plain)
    found = verify(benchmark, root, workers=2)
    assert found.sound, [r.problems for r in found.sets]
    assert {d.key for d in found.duplicates} == {"id.val", "id.test"}
    assert len(found.duplicates) == 2 * 1000
    train = image_sets.open_set(benchmark.id.train, benchmark, root)
    assert train.images_NHWC.shape == (1000, 32, 32, 3)
    assert train.labels_N.tolist().count(3) == 100
    assert train.files is None, "32x32 images are trained from the pack"
    mean = train.images_NHWC[:].mean(axis=(0, 1, 2)) / 255
    assert mean.tolist() == pytest.approx(benchmark.mean, abs=0.02)
    rows = {row.name: row for row in inventory(root)}
    assert rows["cifar10-jpeg/val_cifar10"].state == "here"
    assert rows["cifar10-jpeg/val_cifar10"].pack_bytes > 1000 * 3072
    assert rows["cifar10-jpeg/test_texture"].pack_bytes == 0
    assert rows["cifar10-jpeg/test_scenes"].state == "no list"
