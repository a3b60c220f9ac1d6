//! CIFAR and MNIST in their authors' forms: real pictures written in each form, Python's own pickles, and broken files.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::noise;
use timburn_core::error::DataError;
use timburn_core::{Classes, Error};
use timburn_data::dataset::fuzzing::{self, CifarFile};
use timburn_data::dataset::{Cifar, CifarKind, Content, Dataset, Idx, IdxNames, Splits, archive};
use timburn_data::{DecodeOptions, decode_bytes};

const HUNDRED: CifarKind = CifarKind::Hundred { coarse: false };
const COARSE: CifarKind = CifarKind::Hundred { coarse: true };

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/binary").join(name)).unwrap()
}

/// A picture as CIFAR's files hold it, and its class among ten and among a hundred.
struct Record {
    planes: Vec<u8>,
    ten: u8,
    fine: u8,
    coarse: u8,
}

fn planes(pixels: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect()
}

/// Every 50th picture of the real CIFAR-10: 1000 to train, in five batches, and 200 to test; `None` where the data is missing.
fn real() -> Option<(Vec<Record>, Vec<Record>)> {
    let folder =
        std::env::var_os("TIMBURN_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = folder.join("cifar10-jpeg.tar.gz");
    if !path.is_file() {
        let why = format!("skipped: {} is not there (set TIMBURN_DATA to the folder that has it)\n", path.display());
        let _ = std::io::stderr().write_all(why.as_bytes());
        return None;
    }
    let (mut parts, mut seen) = ([Vec::new(), Vec::new()], [0, 0]);
    archive::visit(&path, 1 << 30, &mut |name, _, reader| {
        let name = std::str::from_utf8(name).unwrap();
        let ["cifar10-jpeg", part, class, file] = name.split('/').collect::<Vec<_>>()[..] else { return Ok(()) };
        let part = usize::from(part == "test");
        seen[part] += 1;
        if file.ends_with(".jpg") && seen[part] % 50 == 1 {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            let image = decode_bytes(&bytes, name, &DecodeOptions::default()).unwrap();
            let index = parts[part].len();
            let ten = Classes::cifar10().index_of(class).unwrap() as u8;
            parts[part].push(Record { planes: planes(&image.pixels), ten, fine: (index * 37 % 100) as u8, coarse: (index * 7 % 20) as u8 });
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [50_000, 10_000]);
    // The archive goes through the classes one after the other; batches hold all of them.
    let [train, test] = parts;
    let mut order: Vec<(usize, Record)> = train.into_iter().enumerate().collect();
    order.sort_by_key(|(index, _)| (index * 617 % 1000, *index));
    Some((order.into_iter().map(|(_, record)| record).collect(), test))
}

fn binary(records: &[Record], is_hundred: bool) -> Vec<u8> {
    let label = |record: &Record| if is_hundred { vec![record.coarse, record.fine] } else { vec![record.ten] };
    records.iter().flat_map(|record| [label(record), record.planes.clone()].concat()).collect()
}

/// What Python 2's cPickle wrote, opcode by opcode; `official_layout` below holds this against the fixture of `parity/binary.py`.
struct Python2(u32, Vec<u8>);

impl Python2 {
    fn put(&mut self) {
        self.0 += 1;
        match u8::try_from(self.0) {
            Ok(slot) => self.1.extend([b'q', slot]),
            Err(_) => {
                self.1.push(b'r');
                self.1.extend(self.0.to_le_bytes());
            }
        }
    }
    fn int(&mut self, value: usize) {
        match u8::try_from(value) {
            Ok(byte) => self.1.extend([b'K', byte]),
            Err(_) => {
                self.1.push(b'M');
                self.1.extend((value as u16).to_le_bytes());
            }
        }
    }
    fn text(&mut self, text: &str) {
        self.1.extend([b'U', text.len() as u8]);
        self.1.extend(text.as_bytes());
        self.put();
    }
    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, each: impl Fn(&mut Self, T)) {
        self.1.push(b']');
        self.put();
        self.1.push(b'(');
        items.into_iter().for_each(|item| each(self, item));
        self.1.push(b'e');
    }
    fn batch(label: &str, columns: &[(&str, Vec<u8>)], planes: &[u8], names: &[String], last: Option<(&str, Vec<u8>)>) -> Vec<u8> {
        let mut out = Self(0, b"\x80\x02}".to_vec());
        out.put();
        out.1.push(b'(');
        out.text("batch_label");
        out.text(label);
        for (key, labels) in columns {
            out.text(key);
            out.list(labels, |out, label| out.int(usize::from(*label)));
        }
        out.text("data");
        out.1.extend(b"cnumpy.core.multiarray\n_reconstruct\n");
        out.put();
        out.1.extend(b"cnumpy\nndarray\n");
        out.put();
        out.1.extend(b"K\0\x85U\x01b\x87R");
        out.put();
        out.1.extend(b"(K\x01");
        out.int(planes.len() / 3072);
        out.int(3072);
        out.1.extend(b"\x86cnumpy\ndtype\n");
        out.put();
        out.1.extend(b"U\x02u1K\0K\x01\x87R");
        out.put();
        out.1.extend(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T");
        out.1.extend((planes.len() as u32).to_le_bytes());
        out.1.extend(planes);
        out.1.extend(b"tb");
        out.text("filenames");
        out.list(names, |out, name| out.text(name));
        if let Some((key, labels)) = last {
            out.text(key);
            out.list(&labels, |out, label| out.int(usize::from(*label)));
        }
        out.1.extend(b"u.");
        out.1
    }
}

fn pickle(records: &[Record], is_hundred: bool) -> Vec<u8> {
    let column = |pick: fn(&Record) -> u8| records.iter().map(pick).collect::<Vec<u8>>();
    let planes: Vec<u8> = records.iter().flat_map(|record| record.planes.iter().copied()).collect();
    let names: Vec<String> = (0..records.len()).map(|index| format!("picture_s_{index:06}.png")).collect();
    if is_hundred {
        let columns = [("coarse_labels", column(|record| record.coarse)), ("fine_labels", column(|record| record.fine))];
        return Python2::batch("training batch 1 of 1", &columns, &planes, &names, None);
    }
    Python2::batch("training batch 1 of 5", &[("labels", column(|record| record.ten))], &planes, &names, None)
}

/// Names and content of a folder's files.
type Files = Vec<(String, Vec<u8>)>;

/// The four published folders.
fn folders(train: &[Record], test: &[Record]) -> Vec<(&'static str, CifarKind, Files)> {
    let batches = |write: fn(&[Record], bool) -> Vec<u8>, end: &str| {
        let batches = train.chunks(train.len() / 5).enumerate();
        let mut files: Vec<_> = batches.map(|(index, batch)| (format!("data_batch_{}{end}", index + 1), write(batch, false))).collect();
        files.push((format!("test_batch{end}"), write(test, false)));
        files
    };
    let whole = |write: fn(&[Record], bool) -> Vec<u8>, end: &str| {
        vec![(format!("train{end}"), write(train, true)), (format!("test{end}"), write(test, true))]
    };
    let ten: String = Classes::cifar10().names.iter().map(|name| format!("{name}\n")).collect();
    let mut sets = vec![
        ("cifar-10-batches-bin", CifarKind::Ten, batches(binary, ".bin")),
        ("cifar-10-batches-py", CifarKind::Ten, batches(pickle, "")),
        ("cifar-100-binary", HUNDRED, whole(binary, ".bin")),
        ("cifar-100-python", HUNDRED, whole(pickle, "")),
    ];
    // The published list ends with an empty line.
    sets[0].2.push(("batches.meta.txt".into(), format!("{ten}\n").into_bytes()));
    sets[1].2.push(("batches.meta".into(), golden("batches.meta")));
    sets[3].2.push(("meta".into(), golden("meta")));
    sets
}

fn write_folder(folder: &Path, files: &[(String, Vec<u8>)]) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn tar(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    builder.append_data(&mut header, format!("{folder}/"), &[][..]).unwrap();
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn pixels(dataset: &dyn Dataset, index: usize) -> Vec<u8> {
    let Content::Pixels(image) = dataset.read(index).unwrap() else { panic!("pixels") };
    image.pixels
}

fn assert_same(splits: &Splits, train: &[Record], test: &[Record], label: fn(&Record) -> u8, what: &str) {
    for (part, records) in [(&splits.train, train), (splits.test.as_ref().unwrap(), test)] {
        assert_eq!(part.len(), records.len(), "{what}");
        for (index, record) in records.iter().enumerate() {
            assert_eq!(part.label(index), usize::from(label(record)), "{what}: {}", part.name(index));
            assert!(planes(&pixels(part, index)) == record.planes, "{what}: {}", part.name(index));
        }
        assert!(part.read(records.len()).is_err() && part.label(records.len()) == 0);
    }
    assert!(splits.validation.is_none());
}

#[test]
fn real_pictures_come_back_from_every_form() {
    let Some((train, test)) = real() else { return };
    let root = tempfile::tempdir().unwrap();
    for (name, kind, files) in folders(&train, &test) {
        let label: fn(&Record) -> u8 = if kind == CifarKind::Ten { |record| record.ten } else { |record| record.fine };
        let alone = root.path().join(format!("alone-{name}"));
        let folder = alone.join(name);
        write_folder(&folder, &files);
        let archives = root.path().join(format!("archives-{name}"));
        fs::create_dir_all(&archives).unwrap();
        let official = archives.join(format!("{}.tar.gz", name.replace("-batches-bin", "-binary").replace("-batches-py", "-python")));
        let tar = tar(name, &files);
        fs::write(&official, gzip(&tar)).unwrap();
        fs::write(archives.join("renamed.tgz"), gzip(&tar)).unwrap();
        fs::write(archives.join("plain.tar"), &tar).unwrap();
        let places = [&folder, &alone, &archives, &official, &archives.join("renamed.tgz"), &archives.join("plain.tar")];
        for (number, place) in places.into_iter().enumerate() {
            for asked in [CifarKind::Auto, kind] {
                let splits = Cifar::open(place, asked).unwrap();
                assert_same(&splits, &train, &test, label, &place.display().to_string());
            }
            assert_eq!(Cifar::is_at(place), number < 4, "{}", place.display());
        }
        let classes = Cifar::open(&folder, kind).unwrap().classes().clone();
        if kind == CifarKind::Ten {
            assert_eq!(classes, Classes::cifar10());
            assert!(Cifar::open(&folder, HUNDRED).is_err() && Cifar::open(&official, HUNDRED).is_err());
        } else {
            assert_eq!((classes.len(), classes.names[15].as_str(), classes.names[99].as_str()), (100, "camel", "worm"));
            let coarse = Cifar::open(&official, COARSE).unwrap();
            assert_same(&coarse, &train, &test, |record| record.coarse, name);
            assert_eq!((coarse.classes().len(), coarse.classes().names[11].as_str()), (20, "large_omnivores_and_herbivores"));
        }
        let sample = Cifar::open(&official, kind).unwrap().test.unwrap().name(17);
        assert!(sample.contains(".tar.gz:cifar-10") && sample.ends_with(":17"), "{sample}");
    }
}

fn records(count: usize) -> Vec<Record> {
    (0..count)
        .map(|i| Record {
            planes: noise(&format!("cifar {i}"), 3072),
            ten: (7 * i % 10) as u8,
            fine: (7 * i % 100) as u8,
            coarse: (7 * i % 20) as u8,
        })
        .collect()
}

fn open_ten(batch: &[u8]) -> timburn_core::Result<Splits> {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &(1..=5).map(|number| (format!("data_batch_{number}"), batch.to_vec())).collect::<Vec<_>>());
    Cifar::open(folder.path(), CifarKind::Ten)
}

#[test]
fn pythons_pickles_are_read_in_every_protocol() {
    let names = ["official_10", "python3_p2", "python3_p3", "python3_p4", "python3_p4_bytes", "python3_p5", "python3_p5_frozen"];
    for name in names {
        let splits = open_ten(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(splits.train.len(), 15);
        for (index, record) in records(3).iter().enumerate() {
            assert_eq!(splits.train.label(index + 3), usize::from(record.ten), "{name}");
            assert_eq!(planes(&pixels(&splits.train, index + 3)), record.planes, "{name}");
        }
        assert_eq!(splits.classes(), &Classes::cifar10(), "standard names without a meta file");
        assert!(splits.test.is_none());
    }
}

#[test]
fn the_helper_writes_the_official_layout() {
    let records = records(3);
    let names: Vec<String> = (0..3).map(|index| format!("noise_s_{index:06}.png")).collect();
    let planes: Vec<u8> = records.iter().flat_map(|record| record.planes.iter().copied()).collect();
    let labels = |pick: fn(&Record) -> u8| records.iter().map(pick).collect::<Vec<_>>();
    let ten = Python2::batch("testing batch 1 of 1", &[("labels", labels(|record| record.ten))], &planes, &names, None);
    assert!(ten == golden("official_10"));
    let coarse = Some(("coarse_labels", labels(|record| record.coarse)));
    let hundred = Python2::batch("testing batch 1 of 1", &[("fine_labels", labels(|record| record.fine))], &planes, &names, coarse);
    assert!(hundred == golden("official_100"));
}

fn text(outcome: timburn_core::Result<Splits>) -> String {
    match outcome {
        Err(error) => error.to_string(),
        Ok(splits) => panic!("{} pictures", splits.train.len()),
    }
}

#[test]
fn hostile_and_odd_pickles_are_refused() {
    assert!(text(open_ten(&golden("hostile"))).contains("posix.system") && !Path::new("pwned").exists());
    assert!(text(open_ten(&golden("fortran"))).contains("Fortran"));
    assert!(text(open_ten(&golden("official_100"))).contains("`labels`"));
    // A name is two bytes the second time: a million of them must not become as many copies of a long one.
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &(1..=5).map(|number| (format!("data_batch_{number}"), golden("official_10"))).collect::<Vec<_>>());
    let mut names = b"\x80\x02}U\x0blabel_names](U\x03catq\0".to_vec();
    names.extend(b"h\0".repeat(900_000));
    names.extend(b"es.");
    let long = [b"\x80\x02}U\x0blabel_names](X\0\0\x10\0".to_vec(), vec![b'n'; 1 << 20], b"es.".to_vec()].concat();
    for (bytes, found) in [(names, "1 of more than 1000"), (long, "1048576 bytes")] {
        fs::write(folder.path().join("batches.meta"), bytes).unwrap();
        let error = text(Cifar::open(folder.path(), CifarKind::Ten));
        assert!(error.contains(found) && error.contains("batches.meta"), "{error}");
    }
    let mut wrong = golden("official_10");
    let at = wrong.windows(2).position(|pair| pair == b"K\x07").unwrap();
    wrong[at + 1] = 10;
    assert!(text(open_ten(&wrong)).contains("10 in record 1"));
}

#[test]
fn missing_cut_and_ambiguous_batches_are_named() {
    let root = tempfile::tempdir().unwrap();
    let records = records(15);
    let files = &folders(&records[..10], &records[10..])[0].2;
    let folder = root.path().join("cifar-10-batches-bin");
    write_folder(&folder, files);
    Cifar::open(root.path(), CifarKind::Auto).unwrap();
    let third = folder.join("data_batch_3.bin");
    let whole = fs::read(&third).unwrap();
    fs::write(&third, &whole[..3073]).unwrap();
    let error = text(Cifar::open(&folder, CifarKind::Ten));
    assert!(error.contains("data_batch_3.bin") && error.contains("1 records") && error.contains("2 records"), "{error}");
    fs::write(&third, &whole[..4000]).unwrap();
    assert!(text(Cifar::open(&folder, CifarKind::Ten)).contains("data_batch_3.bin"));
    fs::remove_file(&third).unwrap();
    assert!(text(Cifar::open(&folder, CifarKind::Ten)).contains("no data_batch_3.bin"));
    fs::write(&third, &whole).unwrap();
    fs::write(folder.join("batches.meta.txt"), "cat\ndog\n").unwrap();
    assert!(text(Cifar::open(&folder, CifarKind::Ten)).contains("10 class names"));
    write_folder(&root.path().join("cifar-100-binary"), &folders(&records[..10], &records[10..])[2].2);
    assert!(text(Cifar::open(root.path(), CifarKind::Auto)).contains("several"));
    assert_eq!(Cifar::open(root.path(), HUNDRED).unwrap().train.len(), 10);
    assert!(matches!(Cifar::open(root.path().join("nowhere"), CifarKind::Auto), Err(Error::Io { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Cifar::open(empty.path(), CifarKind::Auto), Err(Error::Data(DataError::Unrecognised { .. }))));
}

fn idx(sides: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sides.len() as u8];
    sides.iter().for_each(|side| bytes.extend(side.to_be_bytes()));
    [bytes, data.to_vec()].concat()
}

#[test]
fn idx_files_are_read_in_every_spelling() {
    let (pictures, tests) = (noise("idx train", 4 * 28 * 20), noise("idx test", 2 * 28 * 20));
    let parts = [("train", 4, &pictures, vec![3, 0, 9, 1]), ("t10k", 2, &tests, vec![8, 2])];
    for (packed, separator, folder) in [(true, '-', "FashionMNIST/raw"), (false, '.', "digits"), (false, '-', "kmnist"), (true, '.', "x")] {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join(folder);
        fs::create_dir_all(&place).unwrap();
        for (part, count, pixels, labels) in &parts {
            let files = [("images", 3, idx(&[*count, 28, 20], pixels)), ("labels", 1, idx(&[*count], labels))];
            for (what, dimensions, bytes) in files {
                let name = format!("{part}-{what}{separator}idx{dimensions}-ubyte{}", if packed { ".gz" } else { "" });
                fs::write(place.join(name), if packed { gzip(&bytes) } else { bytes }).unwrap();
            }
        }
        let splits = Idx::open(place.strip_suffix_raw(), IdxNames::Auto).unwrap();
        let test = splits.test.as_ref().unwrap();
        assert_eq!((splits.train.len(), test.len(), splits.classes().len()), (4, 2, 10));
        assert_eq!(
            splits.classes().names[9],
            ["Ankle boot", "9", "wo", "9"][["FashionMNIST/raw", "digits", "kmnist", "x"].iter().position(|f| *f == folder).unwrap()]
        );
        assert_eq!((0..4).map(|index| splits.train.label(index)).collect::<Vec<_>>(), [3, 0, 9, 1]);
        let Content::Pixels(image) = test.read(1).unwrap() else { panic!() };
        assert_eq!((image.width, image.height), (20, 28));
        assert!(image.pixels.chunks(3).zip(&tests[28 * 20..]).all(|(rgb, gray)| rgb == [*gray; 3]));
        assert!(test.read(2).is_err());
        // One byte less, one label less, nothing at all.
        let labels = place.join(format!("train-labels{separator}idx1-ubyte{}", if packed { ".gz" } else { "" }));
        let short = idx(&[3], &[3, 0, 9]);
        fs::write(&labels, if packed { gzip(&short) } else { short }).unwrap();
        assert!(text(Idx::open(&place, IdxNames::Auto)).contains("4 labels"));
        let cut = idx(&[4], &[3, 0, 9]);
        fs::write(&labels, if packed { gzip(&cut) } else { cut }).unwrap();
        assert!(text(Idx::open(&place, IdxNames::Auto)).contains("train-labels"));
        fs::remove_file(&labels).unwrap();
        assert!(text(Idx::open(&place, IdxNames::Auto)).contains("train-labels beside"));
    }
    assert!(matches!(Idx::open("/nowhere", IdxNames::Auto), Err(Error::Data(DataError::Unrecognised { .. }))));
}

trait StripRaw {
    fn strip_suffix_raw(&self) -> &Path;
}
impl StripRaw for PathBuf {
    /// torchvision's users name the folder above `raw`.
    fn strip_suffix_raw(&self) -> &Path {
        if self.ends_with("raw") { self.parent().unwrap() } else { self }
    }
}

#[test]
fn any_prefix_and_any_corruption_is_an_error_or_a_valid_result() {
    let two = records(2);
    let small = idx(&[2, 5, 5], &noise("idx", 50));
    let small_labels = idx(&[9], &noise("labels", 9));
    let pickles = ["official_10", "official_100", "python3_p2", "python3_p4", "python3_p5", "batches.meta", "meta"].map(golden);
    for pickle in &pickles {
        assert!(fuzzing::parse_cifar_pickle(pickle).is_ok());
        // Inside the pixels all prefixes are alike.
        for length in (0..pickle.len()).filter(|length| *length < 600 || length % 97 == 0 || length + 300 > pickle.len()) {
            assert!(fuzzing::parse_cifar_pickle(&pickle[..length]).is_err(), "{length}");
        }
        for round in 0..1500 {
            let mut garbled = pickle.clone();
            for draw in noise(&format!("garble {round}"), 9).chunks(3) {
                // Mostly where the opcodes are.
                let place = usize::from(draw[0]) * 256 + usize::from(draw[1]);
                let place = if round % 2 == 0 { place % 400 } else { garbled.len() - 1 - place % 300 };
                let length = garbled.len();
                garbled[place % length] = draw[2];
            }
            let _ = fuzzing::parse_cifar_pickle(&garbled);
        }
    }
    let ten = binary(&two, false);
    let CifarFile::Pictures(pictures, 10) = fuzzing::parse_cifar_binary(&ten).unwrap() else { panic!("pictures of ten classes") };
    assert_eq!(pictures.len(), 2);
    // Noise may be a list of names, but no pictures.
    let is_pictures = |bytes: &[u8]| matches!(fuzzing::parse_cifar_binary(bytes), Ok(CifarFile::Pictures(..)));
    assert!(is_pictures(&ten[..3073]) && (0..ten.len()).step_by(7).all(|length| !is_pictures(&ten[..length]) || length == 3073));
    for file in [small, small_labels] {
        fuzzing::parse_idx(&file).unwrap();
        assert!((0..file.len()).all(|length| fuzzing::parse_idx(&file[..length]).is_err()));
        for place in 0..16.min(file.len()) {
            for value in 0..=255 {
                let mut garbled = file.clone();
                garbled[place] = value;
                let _ = fuzzing::parse_idx(&garbled);
            }
        }
    }
}
