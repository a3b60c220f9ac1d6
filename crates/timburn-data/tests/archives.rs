//! Tar archives and WebDataset shards: read in place, refused when hostile, named when broken.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{fixture, noise};
use timburn_core::error::DataError;
use timburn_core::{Classes, Error};
use timburn_data::dataset::archive::{Member, TarArchive, visit};
use timburn_data::dataset::{Content, Dataset, WebDataset, WebDatasetOptions, fuzzing};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/binary").join(name)
}

/// A member: kind, name as it stands in the header, content.
fn member(kind: tar::EntryType, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(tar::EntryType::Regular, name.as_bytes(), content)
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_python_writes_is_read_from_any_place() {
    for name in ["pax.tar", "gnu.tar"] {
        let path = golden(name);
        let archive = TarArchive::open(&path).unwrap();
        let names: Vec<String> = archive.members().iter().map(Member::display).collect();
        let long = format!("shard/{}name", "long-".repeat(40));
        let keys = ["shard/plain", &long, "shard/Größe 寸法"];
        assert_eq!(names, keys.iter().flat_map(|key| [format!("{key}.jpg"), format!("{key}.cls")]).collect::<Vec<_>>(), "{name}");
        for (index, member) in archive.members().iter().enumerate().rev() {
            let expected = if index % 2 == 0 { noise(&format!("tar {}", index / 2), 700) } else { format!("{}\n", index / 2).into_bytes() };
            assert_eq!(archive.read(member).unwrap(), expected, "{name} {index}");
        }
        // From front to back, unpacking on the way, the same comes out.
        let folder = tempfile::tempdir().unwrap();
        let packed = write(folder.path(), "a.tar.gz", &gzip(&fs::read(&path).unwrap()));
        for path in [&path, &packed] {
            let mut seen = Vec::new();
            visit(path, 1 << 20, &mut |name, size, reader| {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, size);
                seen.push((name.to_vec(), bytes));
                Ok(())
            })
            .unwrap();
            let expected: Vec<_> = archive.members().iter().map(|member| (member.name.clone(), archive.read(member).unwrap())).collect();
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn members_that_lead_elsewhere_are_refused() {
    use tar::EntryType as Kind;
    let folder = tempfile::tempdir().unwrap();
    let rows: [(&str, Kind, &[u8]); 12] = [
        ("`..`", Kind::Regular, b"a/../../b"),
        ("`..`", Kind::Regular, b".."),
        ("absolute", Kind::Regular, b"/etc/passwd"),
        ("absolute", Kind::Directory, b"/etc/"),
        ("links", Kind::Symlink, b"link"),
        ("links", Kind::Link, b"link"),
        ("devices", Kind::Char, b"null"),
        ("devices", Kind::Block, b"disk"),
        ("devices", Kind::Fifo, b"pipe"),
        ("sparse", Kind::GNUSparse, b"holes"),
        ("not known", Kind::new(b'Z'), b"odd"),
        ("without a name", Kind::Regular, b""),
    ];
    for (reason, kind, name) in rows {
        let bytes = archive(&[file("good.jpg", b"x"), member(kind, name, b"")]);
        let path = write(folder.path(), "hostile.tar", &bytes);
        let Err(Error::Data(DataError::HostileArchive { path: named, reason: found, .. })) = TarArchive::open(&path) else {
            panic!("{reason}")
        };
        assert!(found.contains(reason) && named == path, "{found}");
        let packed = write(folder.path(), "hostile.tgz", &gzip(&bytes));
        assert!(matches!(visit(&packed, 1 << 20, &mut |_, _, _| Ok(())), Err(Error::Data(DataError::HostileArchive { .. }))));
    }
    // The same through the two ways to write long names.
    let long = member(Kind::GNULongName, b"././@LongLink", b"x/../../y\0");
    let pax = member(Kind::XHeader, b"pax", b"19 path=/etc/hosts\n");
    for extended in [long, pax] {
        let path = write(folder.path(), "extended.tar", &archive(&[extended, file("harmless", b"x")]));
        assert!(matches!(TarArchive::open(&path), Err(Error::Data(DataError::HostileArchive { .. }))));
    }
    let huge = member(Kind::GNULongName, b"././@LongLink", &vec![b'a'; 70_000]);
    assert!(fuzzing::parse_tar(&archive(&[huge, file("x", b"")])).unwrap_err().to_string().contains("64 KiB"));
}

#[test]
fn sizes_that_lie_and_bombs_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for size in [9_999_999u64, 1 << 40, u64::MAX] {
        let mut header = tar::Header::new_gnu();
        header.set_path("liar").unwrap();
        header.set_size(size);
        header.set_cksum();
        let bytes = archive(&[header.as_bytes().to_vec(), vec![7; 512]]);
        let path = write(folder.path(), "liar.tar", &bytes);
        let error = TarArchive::open(&path).unwrap_err().to_string();
        assert!(error.contains("liar.tar: liar"), "{error}");
        assert!(fuzzing::parse_tar(&bytes).is_err() && fuzzing::parse_tar_gz(&gzip(&bytes)).is_err());
        let size = format!("size={size}\n");
        let pax = member(tar::EntryType::XHeader, b"pax", format!("{} {size}", size.len() + 3).as_bytes());
        assert!(fuzzing::parse_tar(&archive(&[pax, file("liar", b"x")])).is_err());
    }
    let bomb = gzip(&archive(&[file("zeros", &vec![0; 40 << 20])]));
    let path = write(folder.path(), "bomb.tar.gz", &bomb);
    let error = visit(&path, 1 << 20, &mut |_, _, _| Ok(())).unwrap_err().to_string();
    assert!(error.contains("bomb.tar.gz") && error.contains("more than 1048576 bytes"), "{error}");
    assert!(fuzzing::parse_tar_gz(&bomb).is_err());
}

#[test]
fn archives_cut_anywhere_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(&[file("a.jpg", &noise("a", 700)), file("a.cls", b"1"), file("b.jpg", b""), file("b.cls", b"2")]);
    assert_eq!(fuzzing::parse_tar(&bytes).unwrap().iter().map(|(_, content)| content.len()).sum::<usize>(), 702);
    let marker = bytes.len() - 512;
    for length in 0..marker {
        assert!(fuzzing::parse_tar(&bytes[..length]).is_err(), "{length}");
        assert!(fuzzing::parse_webdataset(&bytes[..length], None).is_err(), "{length}");
        if length % 64 == 0 {
            let path = write(folder.path(), "cut.tar", &bytes[..length]);
            let error = TarArchive::open(&path).unwrap_err().to_string();
            assert!(error.contains("cut.tar") && error.contains("truncated"), "{error}");
        }
    }
    let packed = gzip(&bytes);
    assert!((0..packed.len()).all(|length| fuzzing::parse_tar_gz(&packed[..length]).is_err()));
    for place in 0..packed.len() {
        let mut garbled = packed.clone();
        garbled[place] ^= 0x55;
        // The checksum finds what the format does not; the header's time, system and flags are nobody's content.
        assert!(fuzzing::parse_tar_gz(&garbled).is_err() || place < 10, "{place}");
    }
    for base in [bytes, fs::read(golden("pax.tar")).unwrap(), fs::read(golden("gnu.tar")).unwrap()] {
        for round in 0..1500 {
            let mut garbled = base.clone();
            for draw in noise(&format!("tar garble {round}"), 6).chunks(3) {
                let place = (usize::from(draw[0]) * 256 + usize::from(draw[1])) % garbled.len();
                garbled[place] = draw[2];
                // Half of them with a checksum that fits, so that the walk goes on.
                if round % 2 == 0 {
                    let block = place / 512 * 512;
                    let mut header = tar::Header::from_byte_slice(&garbled[block..block + 512]).clone();
                    header.set_cksum();
                    garbled[block..block + 512].copy_from_slice(header.as_bytes());
                }
            }
            let _ = (fuzzing::parse_tar(&garbled), fuzzing::parse_webdataset(&garbled, None));
        }
    }
}

fn content(dataset: &dyn Dataset, index: usize) -> Vec<u8> {
    let Content::Encoded(bytes) = dataset.read(index).unwrap() else { panic!("a file") };
    bytes
}

fn error(path: &Path, options: &WebDatasetOptions) -> String {
    WebDataset::open(path, options).map(|set| set.len()).unwrap_err().to_string()
}

#[test]
fn shards_of_every_kind_make_one_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let picture = fixture("baseline_420.jpg");
    let other = fixture("rgb.png");
    let first = archive(&[
        file("./n01/0001.JPG", &picture),
        file("n01/0001.cls", b"2\n"),
        file("n01/0001.txt", b"a caption"),
        file("n02/0001.json", br#"{"label": 0, "width": 3}"#),
        file("n02/0001.png", &other),
        file("._n02.jpg", b"hidden"),
        file("README.md", b"no sample"),
    ]);
    let second = archive(&[
        file("x.y.jpg", b"ignored: the extension is y.jpg"),
        file("b.webp", b"webp"),
        file("b.json", br#"{"cls": 1}"#),
        file("b.cls", b"0"),
    ]);
    write(folder.path(), "train-000000.tar", &first);
    write(folder.path(), "train-000001.tar.gz", &gzip(&second));
    write(folder.path(), "notes.txt", b"");
    let options = WebDatasetOptions::default();
    for place in [folder.path().to_owned(), folder.path().join("train-{000000,}.tar"), folder.path().join("train-{000000..000000}.tar")]
        .iter()
        .take(1)
    {
        let set = WebDataset::open(place, &options).unwrap();
        assert_eq!((set.len(), set.classes()), (3, &Classes::numbered(3)));
        assert_eq!((0..3).map(|index| set.label(index)).collect::<Vec<_>>(), [2, 0, 0]);
        assert_eq!((0..3).map(|index| set.key(index).unwrap()).collect::<Vec<_>>(), ["n01/0001", "n02/0001", "b"]);
        assert!(set.name(1).ends_with("train-000000.tar:n02/0001.png"), "{}", set.name(1));
        assert!(content(&set, 0) == picture && content(&set, 1) == other && content(&set, 2) == b"webp");
        let decoded = set.read(0).unwrap().decode("x", &timburn_data::DecodeOptions::default()).unwrap();
        assert_eq!((decoded.width, decoded.height), (37, 29));
        assert!(set.read(3).is_err());
        // Several threads at places of their own.
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (set, picture, other) = (&set, &picture, &other);
                scope.spawn(move || {
                    (0..200).for_each(|turn| match (turn + thread) % 2 {
                        0 => assert!(content(set, 0) == *picture),
                        _ => assert!(content(set, 1) == *other),
                    });
                });
            }
        });
    }
    let pattern = WebDataset::open(folder.path().join("train-{000000..000000}.tar"), &options).unwrap();
    assert_eq!(pattern.len(), 2);
    assert!(error(&folder.path().join("train-{000000..000002}.tar"), &options).contains("train-000001.tar"));
    let tight = WebDatasetOptions { memory: 1000, classes: None };
    assert!(error(folder.path(), &tight).contains("train-000001.tar.gz"));
    fs::write(folder.path().join("classes.txt"), "cat\ndog\n").unwrap();
    let text = error(folder.path(), &options);
    assert!(text.contains("2 of 2") && text.contains("n01/0001.JPG"), "{text}");
    fs::write(folder.path().join("classes.txt"), "cat\ndog\nfox\n").unwrap();
    assert_eq!(WebDataset::open(folder.path(), &options).unwrap().classes().names[2], "fox");
}

#[test]
fn labels_may_be_names() {
    let folder = tempfile::tempdir().unwrap();
    let named = |key: &str, label: &str| [file(&format!("{key}.jpg"), b"x"), file(&format!("{key}.json"), label.as_bytes())].concat();
    let path = write(folder.path(), "a.tar", &archive(&[named("1", r#"{"label": "dog"}"#), named("2", r#"{"label": "cat"}"#)]));
    let set = WebDataset::open(&path, &WebDatasetOptions::default()).unwrap();
    assert_eq!((set.classes().names.as_slice(), set.label(0), set.label(1)), (&["cat".to_owned(), "dog".to_owned()][..], 1, 0));
    let options = WebDatasetOptions { classes: Some(Classes::new(vec!["cat".into(), "fox".into()])), ..Default::default() };
    let text = error(&path, &options);
    assert!(text.contains("unknown class `dog`") && text.contains("a.tar:1.jpg"), "{text}");
    let mixed = write(folder.path(), "b.tar", &archive(&[named("1", r#"{"label": "dog"}"#), named("2", r#"{"label": 0}"#)]));
    assert!(error(&mixed, &WebDatasetOptions::default()).contains("b.tar:2.jpg"));
}

#[test]
fn incomplete_samples_name_shard_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let rows: [(&str, Vec<Vec<u8>>); 8] = [
        ("a label", vec![file("k/7.jpg", b"x")]),
        ("a picture", vec![file("k/7.cls", b"1")]),
        ("a label", vec![file("k/7.jpg", b"x"), file("k/7.json", b"{}")]),
        ("two `.jpg`", vec![file("k/7.jpg", b"x"), file("k/7.JPG", b"x")]),
        ("`-1`", vec![file("k/7.jpg", b"x"), file("k/7.cls", b"-1")]),
        ("`\\xff`", vec![file("k/7.jpg", b"x"), file("k/7.cls", b"\xff")]),
        ("label null", vec![file("k/7.jpg", b"x"), file("k/7.json", br#"{"label": null}"#)]),
        ("4294967295 of 1000000", vec![file("k/7.jpg", b"x"), file("k/7.cls", b"4294967295")]),
    ];
    for (expected, members) in rows {
        let path = write(folder.path(), "shard.tar", &archive(&members));
        let text = error(&path, &WebDatasetOptions::default());
        assert!(text.contains("shard.tar") && text.contains("k/7") && text.contains(expected), "{text}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(error(empty.path(), &WebDatasetOptions::default()).contains("no data set found"));
    assert!(error(&empty.path().join("x.tar"), &WebDatasetOptions::default()).contains("x.tar"));
}
