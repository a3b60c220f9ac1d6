"""Valid files for the fuzz targets to start from: `python fuzz/seeds.py FOLDER` writes FOLDER/<target>/<name>. Standard library alone.

`cargo fuzz cmin` then keeps what reaches code that nothing else does, see README.md.
"""

import gzip
import hashlib
import io
import json
import pathlib
import pickle
import struct
import sys
import tarfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = pathlib.Path(sys.argv[1])
SYNSETS = [line.split("\t") for line in (ROOT / "crates/timburn-core/assets/imagenet1k.tsv").read_text().splitlines()]


def put(target, name, content):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def tar(members, kind=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
    # Two blocks of zeros end it; Python fills up to 10 KB.
    length = (len(out.getvalue().rstrip(b"\0")) + 511) // 512 * 512
    return out.getvalue()[: length + 1024]


def packed(classes, pictures):
    """The layout of `crates/timburn-data/src/packed/mod.rs`."""
    classes = json.dumps(classes).encode()
    pixels = b"".join(bytes((at * 7 + width) % 256 for at in range(width * height * 3)) for width, height, _, _ in pictures)
    rows, start = b"", 0
    for width, height, label, name in pictures:
        size = width * height * 3
        rows += struct.pack("<5I", width, height, label, zlib.crc32(pixels[start : start + size]), len(name.encode()))
        start += size
    names = "".join(name for *_, name in pictures).encode()
    length = 88 + len(pixels) + len(classes) + len(rows) + len(names)
    fields = b"TIMBPACK" + struct.pack("<6Q", 1, len(pictures), len(pixels), len(classes), len(names), length)
    return fields + hashlib.sha256(fields + classes + rows + names).digest() + pixels + classes + rows + names


def archives():
    long = "long-" * 40
    for kind, name in [(tarfile.USTAR_FORMAT, "ustar"), (tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")]:
        far = f"{'a' * 90}/{'b' * 60}" if kind == tarfile.USTAR_FORMAT else f"shard/{long}"
        members = [("shard", None), ("./shard/x.jpg", b"picture"), ("shard/x.cls", b"1\n"), (far + ".jpg", b""), (far + ".cls", b"3")]
        if kind != tarfile.USTAR_FORMAT:
            members += [("Größe 寸法.png", b"x" * 513), ("Größe 寸法.json", b'{"label": 2}')]
        for target in ["tar", "tar_gz", "webdataset"]:
            put(target, name, tar(members, kind))
        put("tar_gz", name + ".gz", gzip.compress(tar(members, kind), mtime=0))
    put("tar_gz", "two_streams.gz", gzip.compress(tar([("a", b"1")])[:700], mtime=0) + gzip.compress(tar([("a", b"1")])[700:], mtime=0))
    big = tarfile.TarInfo("liar")
    big.size = 1 << 40
    put("tar", "liar", big.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    for link in [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]:
        member = tarfile.TarInfo("odd")
        member.type = link
        put("tar", f"kind_{link.decode()}", member.tobuf() + bytes(1024))
    sized = tarfile.TarInfo("x")
    sized.size, sized.pax_headers = 3, {"size": "3", "comment": "of no matter"}
    put("tar", "pax_size", sized.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0") + bytes(1024))
    picture = ("1.jpg", b"x")
    put("webdataset", "names", tar([picture, ("1.json", b'{"label": "dog"}'), ("2.png", b"y"), ("2.json", b'{"cls": "cat"}')]))
    put("webdataset", "several", tar([("k/7.JPG", b"x"), ("k/7.png", b"y"), ("k/7.json", b'{"w": 1}'), ("k/7.cls", b"4"), ("._h.jpg", b"")]))
    put("webdataset", "no_label", tar([picture]))
    put("webdataset", "no_picture", tar([("1.cls", b"1")]))
    put("webdataset", "mixed", tar([picture, ("1.json", b'{"label": "dog"}'), ("2.jpg", b"y"), ("2.cls", b"0")]))
    put("webdataset", "deep", tar([picture, ("1.json", b'{"label": ' + b"[" * 200 + b"]" * 200 + b"}")]))


def binary():
    record = lambda *labels: bytes(labels) + bytes(at * 3 % 251 for at in range(3072))
    put("cifar_binary", "ten", record(3) + record(9))
    put("cifar_binary", "hundred", record(19, 99))
    put("cifar_binary", "bad_label", record(77))
    put("cifar_binary", "names", "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")
    put("cifar_binary", "names_20", "".join(f"{number}\n" for number in range(20)))
    put("cifar_pickle", "same_name", pickle.dumps({"label_names": ["x" * 900] * 10}, 2))
    # One long string and 3000 references to it: 3000 times its size if names were copied before they are counted.
    amplified = b"\x80\x02}U\x0blabel_names](X" + struct.pack("<I", 20000) + b"n" * 20000 + b"q\0" + b"h\0" * 3000 + b"es."
    put("cifar_pickle", "amplified_names", amplified)
    put("cifar_pickle", "names", pickle.dumps({"label_names": [f"class {number}" for number in range(10)], "num_vis": 3072}, 4))
    put("cifar_pickle", "no_data", pickle.dumps({"labels": [1, 2], "data": None, "odd": (1.5, True, -1, 1 << 40, b"x")}, 5))
    idx = lambda sides, data: struct.pack(f">4B{len(sides)}I", 0, 0, 8, len(sides), *sides) + data
    put("idx", "pictures", idx([3, 4, 5], bytes(at % 10 for at in range(60))))
    put("idx", "labels", idx([5], b"\0\1\2\3\4"))
    put("idx", "bad_label", idx([1, 1, 2], b"\xff\0"))
    put("idx", "huge", idx([1 << 31, 1 << 31, 4], b""))
    put("idx", "labels.gz", gzip.compress(idx([5], b"\0\1\2\3\4"), mtime=0))
    put("idx", "bomb.gz", gzip.compress(idx([1 << 21], bytes(1 << 21)), mtime=0))
    classes = {"names": ["yes", "no"], "ids": ["n1", "n2"]}
    put("packed", "three", packed(classes, [(2, 1, 0, "a.jpg"), (1, 3, 1, "größe/雪.png"), (1, 1, 0, "")]))
    put("packed", "no_ids", packed({"names": ["x"]}, [(1, 1, 0, "")]))
    put("packed", "empty", packed({"names": []}, []))
    put("packed", "uneven_ids", packed({"names": ["x", "y"], "ids": ["n1"]}, [(1, 1, 1, "p")]))


def tables():
    put("tables", "table_header", 'Tfilename,label,split\n"a, b.jpg",cat,train\nc.png,dog,val\n')
    put("tables", "table_tsv", "T\ufeffCLASS\tx\tImage\r\ncat\t1\ta.jpg\r\n\r\ndog\t2\tc.png\r\n")
    put("tables", "table_plain", "a.jpg;10\nb.jpg;9\n\nc.jpg;10")
    put("tables", "table_quotes", 'Tpath,label\n"a\n""b"".jpg","x\ny"\nc.png,z\n')
    put("tables", "table_cr", "Tpath,label\ra.jpg,x\rb.jpg,y\r")
    put("tables", "classes_lines", "Ccat\ndog\n\nfox\r\n")
    put("tables", "classes_ids", "Cn1\tcat\nn2\tdog\n")
    put("tables", "classes_synsets", "Cn01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    for number, value in enumerate(
        [["cat", "dog"], {"0": "cat", "1": "dog"}, {"cat": 0, "dog": 1}, {"0": ["n1", "cat"], "1": ["n2", "dog"]}, {"names": ["a"], "ids": ["n"]}]
    ):
        put("tables", f"classes_json_{number}", "C" + json.dumps(value))
    put("tables", "labels_ids", "I490\n1\n1000\n")
    put("tables", "labels_ids_alone", "L490\n")
    put("tables", "labels_synsets", "Ln01751748\r\nn02123045\r\n")
    put("tables", "labels_caffe", "Lval_00000001.JPEG 65\nval_00000002.JPEG n02123045\n")
    put("tables", "labels_kaggle", "LImageId,PredictionString\nval_00000002,n02123045 85 1 499 272 n02123045 1 2 3 4 \n")
    put("tables", "synsets_some", "Sn02119789 1 kit_fox\nn02100735 2 x\n")
    shifted = SYNSETS[7:] + SYNSETS[:7]
    put("tables", "synsets_all", "S" + "".join(f"{row[0]}\n" for row in shifted))
    put("tables", "synsets_alphabetical", "S" + "".join(f"{row[0]}\n" for row in SYNSETS))


STEPS = """
resize size=8 | resize size=[5,9] interpolation="lanczos" | resize size=7 mode="squash" antialias=false interpolation="bicubic"
center_crop size=6 | random_resized_crop size=[6,9] scale=[0.2,1.0] ratio=[0.5,2.0] interpolation="random"
random_crop size=8 padding=4 padding_mode="reflect" | random_crop size=[30,3] padding_mode="edge" fill=[1,2,3]
horizontal_flip p=1.0 | vertical_flip p=0.5 | rotate degrees=30 | rotate degrees=[90,90] interpolation="bilinear"
affine degrees=10 shift=[0.1,0.2] scale=[0.5,2.0] shear=20 shear_y=[-5,5] interpolation="bicubic"
keras_affine rotation=20 width_shift=0.2 height_shift=1.0 shear=89 zoom=[0.01,100] fill_mode="reflect"
keras_affine zoom=0.5 fill_mode="wrap" | keras_affine rotation=360 fill_mode="constant" fill=[9,8,7]
color_jitter brightness=0.4 contrast=[0.5,100] saturation=0.4 hue=0.5 | grayscale p=0.5
gaussian_blur kernel=5 | gaussian_blur kernel=255 sigma=[0.01,1000] p=1.0 | gaussian_blur kernel=1 sigma=0.01
auto_contrast p=1.0 | equalize p=1.0 | invert p=1.0 | posterize bits=0 p=1.0 | solarize threshold=256 | solarize_add amount=255
brightness factor=0 p=1.0 | contrast factor=[0,100] p=1.0 | color factor=2 | sharpness factor=100 p=1.0
rand_augment | rand_augment set="timm" magnitude=9 magnitude_std=0.5 increasing=true | rand_augment bins=2 magnitude=1 ops=5
auto_augment | auto_augment policy="cifar10" | trivial_augment_wide bins=2 interpolation="bicubic" | aug_mix | aug_mix alpha=0.01 depth=4
random_erasing p=1.0 value="pixel" | random_erasing p=1.0 count=[1,50] value="random" std=[10,0,1] ratio=[0.001,1000] | cutout size=4096
normalize | normalize mean=[0,0,0] std=[1,1,1] channels="bgr" | to_tensor
"""


def transforms():
    steps = [step.split() for line in STEPS.strip().splitlines() for step in line.split(" | ")]
    as_toml = lambda step: "{ " + ", ".join([f'op = "{step[0]}"', *step[1:]]) + " }"
    for number, step in enumerate(steps):
        put("transforms", f"{number:02}_{step[0]}", f"transforms = [{as_toml(step)}]\n")
    put("transforms", "names", json.dumps(["horizontal_flip", {"op": "resize", "size": 8}, {"op": "center_crop", "size": [9, 4]}, "normalize"]))
    tables = "".join(f"[[transforms]]\nop = \"{step[0]}\"\n" + "".join(f"{key}\n" for key in step[1:]) for step in steps[6:14])
    put("transforms", "many", tables)


archives()
binary()
tables()
transforms()
