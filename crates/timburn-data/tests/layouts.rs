//! Every row "Dataset layouts" of the guarantees, on folders made for it; then real data.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use tempfile::TempDir;
use timburn_core::error::DataError;
use timburn_core::{Classes, Error};
use timburn_data::dataset::{Column, FileList};
use timburn_data::{
    Content, Dataset, FolderOptions, ImageFolder, ImageNet, OpenOptions, TableOptions, check_same, find_duplicates, load_classes, open,
    open_table, open_with, save_classes,
};

/// A folder with these files, each holding its own path.
fn tree(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    root
}

fn data_error<T>(outcome: Result<T, Error>) -> DataError {
    match outcome {
        Err(Error::Data(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}

/// Names below the root, with their labels.
fn listing(set: &dyn Dataset, root: &Path) -> Vec<(String, usize)> {
    let below = |index| set.name(index).strip_prefix(root.to_str().unwrap()).unwrap().trim_start_matches('/').to_owned();
    (0..set.len()).map(|index| (below(index), set.label(index))).collect()
}

/// The warnings logged while `work` runs on this thread.
fn warnings(work: impl FnOnce()) -> Vec<String> {
    struct Logger;
    static LOGGED: Mutex<Vec<(std::thread::ThreadId, String)>> = Mutex::new(Vec::new());
    static START: Once = Once::new();
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LOGGED.lock().unwrap().push((std::thread::current().id(), record.args().to_string()));
        }
        fn flush(&self) {}
    }
    START.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    work();
    let here = std::thread::current().id();
    LOGGED.lock().unwrap().extract_if(.., |(thread, _)| *thread == here).map(|(_, text)| text).collect()
}

fn skip(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}

#[test]
fn torchvisions_order_and_labels() {
    let root =
        tree(&["b/2.jpg", "b/10.JPG", "a/z/1.png", "a/y.webp", "a/z-/0.gif", "a/notes.txt", "a/.hidden.jpg", ".git/x.jpg", "top.jpg"]);
    let set = ImageFolder::open(root.path()).unwrap();
    assert_eq!(set.classes().names, ["a", "b"]);
    let expected = [("a/y.webp", 0), ("a/z/1.png", 0), ("a/z-/0.gif", 0), ("b/10.JPG", 1), ("b/2.jpg", 1)];
    assert_eq!(listing(&set, root.path()), expected.map(|(name, label)| (name.to_owned(), label)));
    assert_eq!(set.read(0).unwrap(), Content::Encoded(b"a/y.webp".to_vec()));
    assert!(set.read(5).is_err() && set.name(5).is_empty() && set.path(5).is_none());
    let only_png = FolderOptions { extensions: vec!["PNG".into()], allow_empty: true, ..FolderOptions::default() };
    assert_eq!(ImageFolder::open_with(root.path(), &only_png).unwrap().len(), 1);
}

#[test]
fn an_empty_class_is_an_error_or_keeps_its_index() {
    let root = tree(&["a/1.jpg", "b/readme.txt", "c/1.jpg"]);
    let error = data_error(ImageFolder::open(root.path()));
    assert!(
        matches!(&error, DataError::EmptyClass { class, .. } if class == "b") && error.to_string().contains("jpg, jpeg, png"),
        "{error}"
    );
    let set = ImageFolder::open_with(root.path(), &FolderOptions { allow_empty: true, ..FolderOptions::default() }).unwrap();
    assert_eq!((set.classes().len(), set.label(1)), (3, 2));
}

#[test]
fn no_class_and_one_class_are_errors() {
    let error = data_error(ImageFolder::open(tree(&["1.jpg"]).path()));
    assert!(matches!(error, DataError::NoClasses { .. }) && error.to_string().contains("tiff"), "{error}");
    assert!(matches!(data_error(ImageFolder::open(tree(&["a/x.txt", "b/y.txt"]).path())), DataError::NoClasses { .. }));
    let root = tree(&["only/1.jpg"]);
    assert!(matches!(data_error(ImageFolder::open(root.path())), DataError::OneClass { class, .. } if class == "only"));
    assert!(ImageFolder::open_with(root.path(), &FolderOptions { allow_one_class: true, ..FolderOptions::default() }).is_ok());
    assert!(matches!(ImageFolder::open(root.path().join("nowhere")), Err(Error::Io { .. })));
}

#[test]
fn the_class_map_is_the_training_sets() {
    let root = tree(&["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "Valid/c/1.jpg", "test/a/1.jpg", "test/b/1.jpg", "test/c/2.jpg"]);
    let mut data = None;
    let logged = warnings(|| data = Some(ImageFolder::splits(root.path()).unwrap()));
    assert!(logged.iter().any(|line| line.contains("2 of 3 classes have no folder, `a`")), "{logged:?}");
    let data = data.unwrap();
    assert_eq!(listing(&data.validation.unwrap(), root.path()), [("Valid/c/1.jpg".to_owned(), 2)]);
    assert_eq!(data.test.unwrap().len(), 3);
    let root = tree(&["train/rose/1.jpg", "train/tulip/1.jpg", "val/rosa/1.jpg", "val/tulip/1.jpg"]);
    let error = data_error(ImageFolder::splits(root.path()));
    assert!(error.to_string().contains("val: unknown class `rosa`; did you mean `rose`?"), "{error}");
    let error = data_error(ImageFolder::open(root.path()));
    assert!(error.to_string().contains("these are splits"), "{error}");
    let both = tree(&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"]);
    assert!(data_error(ImageFolder::splits(both.path())).to_string().contains("one folder for each split"));
}

#[test]
fn kaggles_test_folder_without_classes_is_left_out_and_said() {
    let root = tree(&["train/a/1.jpg", "train/b/1.jpg", "test/1.jpg"]);
    let logged = warnings(|| assert!(ImageFolder::splits(root.path()).unwrap().test.is_none()));
    assert!(logged.iter().any(|line| line.contains("no class folders")), "{logged:?}");
}

#[cfg(unix)]
#[test]
fn link_loops_are_errors_and_links_are_followed() {
    use std::os::unix::fs::symlink;
    let root = tree(&["a/1.jpg", "b/1.jpg"]);
    let other = tree(&["deep/2.jpg"]);
    symlink(other.path(), root.path().join("a/link")).unwrap();
    symlink(other.path().join("deep/2.jpg"), root.path().join("b/file.jpg")).unwrap();
    symlink(other.path(), root.path().join("c")).unwrap();
    let set = ImageFolder::open(root.path()).unwrap();
    assert_eq!((set.classes().len(), set.len()), (3, 5));
    let unfollowed = FolderOptions { follow_links: false, ..FolderOptions::default() };
    assert_eq!(ImageFolder::open_with(root.path(), &unfollowed).unwrap().len(), 2);
    for (link, target) in [("a/up", root.path().join("a")), ("b/root", root.path().to_path_buf()), ("whole", root.path().to_path_buf())] {
        let link = root.path().join(link);
        symlink(target, &link).unwrap();
        assert!(matches!(data_error(ImageFolder::open(root.path())), DataError::LinkLoop { .. }), "{}", link.display());
        fs::remove_file(link).unwrap();
    }
    // Two folders that lead to each other, a link to itself, a link to nothing.
    symlink(root.path().join("b"), root.path().join("a/b")).unwrap();
    symlink(root.path().join("a"), root.path().join("b/a")).unwrap();
    assert!(matches!(data_error(ImageFolder::open(root.path())), DataError::LinkLoop { .. }));
    fs::remove_file(root.path().join("b/a")).unwrap();
    for target in ["self", "/nowhere/at/all"] {
        symlink(target, root.path().join("a/self")).unwrap();
        assert!(matches!(ImageFolder::open(root.path()), Err(Error::Io { path, .. }) if path.ends_with("a/self")), "{target}");
        fs::remove_file(root.path().join("a/self")).unwrap();
        symlink(target, root.path().join("self")).unwrap();
        assert!(matches!(ImageFolder::open(root.path()), Err(Error::Io { path, .. }) if path.ends_with("self")), "{target}");
        fs::remove_file(root.path().join("self")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn an_unreadable_folder_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let root = tree(&["a/1.jpg", "a/locked/2.jpg", "b/1.jpg"]);
    let locked = root.path().join("a/locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let readable = fs::read_dir(&locked).is_ok();
    let outcome = ImageFolder::open(root.path());
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    if readable {
        skip("unreadable folders: this user (root) reads every folder");
        return;
    }
    assert!(matches!(outcome, Err(Error::Io { path, .. }) if path.ends_with("a/locked")));
}

#[cfg(target_os = "linux")]
#[test]
fn odd_names_stay_apart_byte_for_byte() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().unwrap();
    // é composed, decomposed, in Latin-1; two more that a lossy conversion would merge.
    let classes: [&[u8]; 6] = ["é".as_bytes(), "e\u{301}".as_bytes(), b"\xe9", b"\xe8", "猫".as_bytes(), b"with space"];
    for class in classes {
        let folder = root.path().join(OsStr::from_bytes(class));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(OsStr::from_bytes(b"\xff.jpg")), class).unwrap();
        fs::write(folder.join(OsStr::from_bytes(b"\xfe.jpg")), b"other").unwrap();
    }
    let set = ImageFolder::open(root.path()).unwrap();
    assert_eq!(set.classes().names, ["e\u{301}", "with space", "é", "猫", "\\xE8", "\\xE9"]);
    assert_eq!(set.len(), 12);
    for index in 0..12 {
        let Content::Encoded(bytes) = set.read(index).unwrap() else { panic!() };
        let path = set.path(index).unwrap();
        let class = path.parent().unwrap().file_name().unwrap().as_bytes().to_vec();
        assert_eq!(bytes, if index % 2 == 0 { b"other".to_vec() } else { class });
    }
    fs::create_dir(root.path().join(OsStr::new("\\xE9"))).unwrap();
    assert!(data_error(ImageFolder::open(root.path())).to_string().contains("stay apart as text"));
}

#[test]
fn class_lists_survive_and_are_enforced() {
    let root = tempfile::tempdir().unwrap();
    let mut odd = Classes::new(vec!["a b".into(), "é".into()]);
    for (file, classes) in [("c.txt", &odd), ("c.json", &odd), ("i.txt", &Classes::imagenet()), ("i.json", &Classes::imagenet())] {
        save_classes(classes, root.path().join(file)).unwrap();
        assert_eq!(&load_classes(root.path().join(file)).unwrap(), classes, "{file}");
    }
    odd.names.push("x\ty".into());
    assert!(save_classes(&odd, root.path().join("d.txt")).is_err());
    let load = |text: &str| {
        fs::write(root.path().join("x"), text).unwrap();
        load_classes(root.path().join("x"))
    };
    for text in [
        "[\"cat\", \"dog\"]",
        "{\"0\": \"cat\", \"1\": \"dog\"}",
        "{\"dog\": 1, \"cat\": 0}",
        "cat\r\ndog\r\n",
        "{\"names\": [\"cat\", \"dog\"]}",
    ] {
        assert_eq!(load(text).unwrap().names, ["cat", "dog"], "{text}");
    }
    let index = load("{\"1\": [\"n01443537\", \"goldfish\"], \"0\": [\"n01440764\", \"tench\"]}").unwrap();
    assert_eq!((index.ids[1].as_str(), index.names[0].as_str()), ("n01443537", "tench"));
    assert_eq!(load("n01440764 tench, Tinca tinca\nn01443537 goldfish\n").unwrap().names[0], "tench, Tinca tinca");
    for text in
        ["", "cat\ncat\n", "{\"0\": \"cat\", \"2\": \"dog\"}", "{\"a\": true}", "[1]", "{", "{\"names\": [\"a\"], \"ids\": [\"1\", \"2\"]}"]
    {
        assert!(load(text).is_err(), "{text}");
    }
    let of = |names: &[&str]| Classes::new(names.iter().map(|name| (*name).to_owned()).collect());
    assert!(check_same(&of(&["a", "b"]), &of(&["a", "b"])).is_ok());
    let error = check_same(&of(&["a", "b", "c"]), &of(&["b", "a", "d"])).unwrap_err().to_string();
    assert_eq!(error, "the class lists differ: missing `c`; unknown `d`; at another index `a`, `b`");
}

fn ten_of(root: &Path) -> ImageFolder {
    for (class, count) in [("a", 10), ("b", 20), ("c", 1)] {
        fs::create_dir_all(root.join(class)).unwrap();
        (0..count).for_each(|index| fs::write(root.join(class).join(format!("{index:02}.jpg")), format!("{class}{index:02}")).unwrap());
    }
    ImageFolder::open(root).unwrap()
}

#[test]
fn views() {
    let root = tempfile::tempdir().unwrap();
    let names =
        |set: &dyn Dataset| listing(set, root.path()).into_iter().map(|(name, label)| format!("{name}={label}")).collect::<Vec<_>>();
    let set = || ten_of(root.path());
    assert_eq!(names(&set().subset(vec![12, 0, 0]).unwrap()), ["b/02.jpg=1", "a/00.jpg=0", "a/00.jpg=0"]);
    assert!(set().subset(vec![31]).is_err());
    assert_eq!((set().take(3).len(), set().take(1000).len()), (3, 31));
    let few = set().per_class(4, 7);
    assert_eq!(few.len(), 9);
    assert_eq!(names(&few), names(&set().per_class(4, 7)));
    assert_ne!(names(&few), names(&set().per_class(4, 8)));
    let two = set().only_classes(&["c", "a"]).unwrap();
    assert_eq!((two.classes().names.join(" "), two.len(), two.label(0), two.label(10)), ("c a".into(), 11, 1, 0));
    assert!(matches!(data_error(set().only_classes(&["d"])), DataError::UnknownClass { .. }));
    assert!(set().only_classes(&["a", "a"]).is_err());
    let wider = Classes::new(["z", "c", "b", "a"].map(String::from).into());
    let relabelled = set().with_classes(&wider).unwrap();
    assert_eq!((relabelled.label(0), relabelled.label(30), relabelled.classes().len()), (3, 1, 4));
    assert!(matches!(data_error(set().with_classes(&Classes::cifar10())), DataError::UnknownClass { .. }));
    let turned = Classes::new(["c", "b", "a"].map(String::from).into());
    let both = set().concat(set().with_classes(&turned).unwrap()).unwrap();
    assert_eq!((both.len(), both.label(0), both.label(31), both.name(31)), (62, 0, 0, both.name(0)));
    assert!(both.read(61).is_ok() && both.read(62).is_err());
    assert!(matches!(data_error(set().concat(set().only_classes(&["a", "b"]).unwrap())), DataError::ClassesDiffer { .. }));
    for bad in [0.0, 1.0, -0.5, f64::NAN] {
        assert!(matches!(set().split(bad, 0), Err(Error::Argument { .. })), "{bad}");
    }
    assert!(set().split3(0.5, 0.5, 0).is_err());
}

#[test]
fn a_split_keeps_copies_together_and_reports_contradictions() {
    let root = tempfile::tempdir().unwrap();
    let _ = ten_of(root.path());
    for (from, to) in [("b/03.jpg", "b/copy1.jpg"), ("b/03.jpg", "b/copy2.jpg"), ("a/05.jpg", "c/same.jpg"), ("b/11.jpg", "b/copy3.jpg")] {
        fs::copy(root.path().join(from), root.path().join(to)).unwrap();
    }
    let mut steps = 0;
    let set = ImageFolder::open(root.path()).unwrap();
    let groups = find_duplicates(&set, |done, _| steps = done);
    assert_eq!((groups.len(), steps, groups.iter().map(Vec::len).sum::<usize>()), (3, 35, 7));
    let mut where_copies_go = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let mut data = None;
        let logged = warnings(|| data = Some(ImageFolder::open(root.path()).unwrap().split(0.7, seed).unwrap()));
        let line = logged.iter().find(|line| line.contains("different classes")).unwrap();
        assert!(line.contains("a/05.jpg (`a`)") && line.contains("c/same.jpg (`c`)"), "{line}");
        let data = data.unwrap();
        let train = listing(&data.train, root.path());
        let validation = listing(&data.validation.unwrap(), root.path());
        assert_eq!(train.len() + validation.len(), 35);
        let in_train = |name: &str| train.iter().any(|(other, _)| other == name);
        assert_eq!(in_train("b/03.jpg"), in_train("b/copy1.jpg"));
        assert_eq!(in_train("b/03.jpg"), in_train("b/copy2.jpg"));
        assert_eq!(in_train("b/11.jpg"), in_train("b/copy3.jpg"));
        assert!(in_train("a/05.jpg") && in_train("c/same.jpg"));
        assert_eq!(train.iter().filter(|(_, label)| *label == 0).count(), 7);
        where_copies_go.insert(in_train("b/03.jpg"));
    }
    assert_eq!(where_copies_go.len(), 2, "copies go to either side");
}

#[test]
fn tables() {
    let root = tree(&["pictures/1.jpg", "pictures/2.jpg", "other/3.png", "4.jpeg"]);
    let table = root.path().join("labels.csv");
    let write = |text: &str| fs::write(&table, text).unwrap();
    write("image_id,label,split\npictures/1.jpg,dog,train\npictures/2,cat,train\nother/3.png,dog,val\n4,cat,test\n");
    let data = open(&table).unwrap();
    assert_eq!(data.classes().names, ["cat", "dog"]);
    assert_eq!(listing(&data.train, root.path()), [("pictures/1.jpg".to_owned(), 1), ("pictures/2.jpg".to_owned(), 0)]);
    assert_eq!(listing(&data.validation.unwrap(), root.path()), [("other/3.png".to_owned(), 1)]);
    assert_eq!(listing(&data.test.unwrap(), root.path()), [("4.jpeg".to_owned(), 0)]);
    assert_eq!(open(root.path()).unwrap().train.len(), 2, "a folder by its one table");
    write("path,class,split\npictures/1.jpg,dog,train\npictures/2.jpg,cat,train\n4.jpeg,cow,val\n");
    let error = data_error(open_table(&table, &TableOptions::default()));
    assert!(matches!(&error, DataError::UnknownClass { name, class, .. } if name.ends_with("line 4") && class == "cow"), "{error}");
    write("path,class\npictures/1.jpg,dog\nx.jpg,cat\ny.jpg,cat\n..,cat\n");
    let error = data_error(open_table(&table, &TableOptions::default()));
    assert!(
        matches!(&error, DataError::MissingFiles { missing: 3, listed: 4, .. }) && error.to_string().contains("x.jpg (line 3)"),
        "{error}"
    );
    write("path,class,split\n4.jpeg,dog,nonsense\n");
    assert!(data_error(open_table(&table, &TableOptions::default())).to_string().contains("line 2: expected the split"));
    write("what\twhere\n1\t1.jpg\n0\t2.jpg\n");
    let classes = Classes::new(vec!["zero".into(), "one".into()]);
    let column = |name: &str| Some(Column::Name(name.into()));
    let root_folder = Some(root.path().join("pictures"));
    let options =
        TableOptions { path: column("where"), label: column("what"), root: root_folder, classes: Some(classes), ..Default::default() };
    let data = open_table(&table, &options).unwrap();
    assert_eq!((data.train.label(0), data.train.classes().names[1].as_str()), (1, "one"));
}

#[test]
fn imagenet_in_every_arrangement() {
    // Two synsets of which the second is class 281.
    let root =
        tree(&["train/n01440764/a.JPEG", "train/n02123045/b.JPEG", "val/ILSVRC2012_val_00000002.JPEG", "val/ILSVRC2012_val_00000005.JPEG"]);
    let lists = [
        ("val.txt", "ILSVRC2012_val_00000002.JPEG 281\nILSVRC2012_val_00000005.JPEG 0\n"),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n02123045 1 2 3 4 \nILSVRC2012_val_00000005,n01440764 1 2 3 4 \n",
        ),
        ("imagenet_2012_validation_synset_labels.txt", "n01440764\nn02123045\nn01440764\nn01440764\nn01440764\n"),
    ];
    for (name, text) in lists {
        let list = root.path().join(name);
        fs::write(&list, text).unwrap();
        let all = ImageNet::default().open(root.path()).unwrap();
        assert_eq!((all.train.classes().len(), all.train.label(1)), (1000, 281));
        let validation = all.validation.unwrap();
        assert_eq!((validation.label(0), validation.label(1), validation.len()), (281, 0, 2), "{name}");
        let some = open(root.path()).unwrap();
        assert_eq!((some.classes().names.join(" "), some.classes().ids[1].as_str()), ("tench tabby".into(), "n02123045"));
        assert_eq!((some.validation.unwrap().label(0), some.train.label(1)), (1, 1));
        let as_imagenet = OpenOptions { as_imagenet: true, ..OpenOptions::default() };
        assert_eq!(open_with(root.path(), &as_imagenet).unwrap().train.label(1), 281);
        let flat: FileList = ImageNet { labels: Some(list.clone()), ..ImageNet::default() }.flat(root.path().join("val")).unwrap();
        assert_eq!(flat.label(0), 281);
        fs::remove_file(list).unwrap();
    }
    assert!(data_error(ImageNet::default().open(root.path())).to_string().contains("a label list for these pictures"));
    // The devkit's numbers, meaningless without its map.
    let devkit = root.path().join("ILSVRC2012_devkit_t12/data");
    fs::create_dir_all(&devkit).unwrap();
    fs::write(devkit.join("ILSVRC2012_validation_ground_truth.txt"), "1\n3\n1\n1\n2\n").unwrap();
    assert!(data_error(ImageNet::default().open(root.path())).to_string().contains("map_clsloc.txt"));
    let ids = Classes::imagenet().ids;
    let map: String = (0..1000).map(|id| format!("{} {} name\n", ids[(id + 279) % 1000], id + 1)).collect();
    fs::write(devkit.join("map_clsloc.txt"), map).unwrap();
    let validation = ImageNet::default().open(root.path()).unwrap().validation.unwrap();
    assert_eq!((validation.label(0), validation.label(1)), (281, 280));
    fs::write(root.path().join("val/ILSVRC2012_val_00000006.JPEG"), "").unwrap();
    let error = data_error(ImageNet::default().open(root.path()));
    assert!(error.to_string().contains("a label for ILSVRC2012_val_00000006.JPEG"), "{error}");
}

#[test]
fn what_is_no_data_set_is_told_what_was_looked_for() {
    let root = tree(&["notes.txt"]);
    let error = data_error(open(root.path())).to_string();
    for layout in ["CSV or TSV", "ImageNet", "class folders"] {
        assert!(error.contains(layout), "{error}");
    }
    assert!(matches!(data_error(open(root.path().join("notes.txt"))), DataError::Unrecognised { .. }));
    assert!(matches!(open(root.path().join("nothing")), Err(Error::Data(DataError::Open { .. }))));
}

/// Unpacks what `wanted` accepts of a data archive; `None` where the data is missing.
fn unpack(archive: &str, wanted: impl Fn(&str) -> bool) -> Option<TempDir> {
    let folder =
        std::env::var_os("TIMBURN_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = folder.join(archive);
    let Ok(file) = fs::File::open(&path) else {
        skip(&format!("{} is not there (set TIMBURN_DATA to the folder that has it)", path.display()));
        return None;
    };
    let reader: Box<dyn std::io::Read> =
        if archive.ends_with(".gz") { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    let root = tempfile::tempdir().unwrap();
    for entry in tar::Archive::new(reader).entries().unwrap() {
        let mut entry = entry.unwrap();
        if wanted(&entry.path().unwrap().to_string_lossy()) {
            entry.unpack_in(root.path()).unwrap();
        }
    }
    Some(root)
}

#[test]
fn cats_and_dogs() {
    let Some(root) = unpack("cats-and-dogs.tar.gz", |_| true) else { return };
    let data = open(root.path().join("cats-and-dogs")).unwrap();
    assert_eq!(data.classes().names, ["cats", "dogs"]);
    assert_eq!((data.train.len(), data.validation.as_ref().unwrap().len()), (2000, 1000));
    assert!(data.test.is_none());
    assert_eq!((0..2000).filter(|&index| data.train.label(index) == 1).count(), 1000);
    let image = data.train.read(1999).unwrap().decode("", &timburn_data::DecodeOptions::default()).unwrap();
    assert_eq!(image.width.min(image.height), 256);
    let halves = data.train.split(0.8, 1).unwrap();
    let validation = halves.validation.unwrap();
    assert_eq!((halves.train.len(), validation.len()), (1600, 400));
    assert_eq!((0..400).filter(|&index| validation.label(index) == 0).count(), 200);
}

#[test]
fn the_imagenet_sample() {
    let Some(root) = unpack("imagenet-sample.tar", |_| true) else { return };
    let root = root.path().join("imagenet-sample");
    let data = open_with(&root, &OpenOptions { as_imagenet: true, ..OpenOptions::default() }).unwrap();
    assert_eq!((data.classes(), data.train.len()), (&Classes::imagenet(), 500));
    assert!((0..500).all(|index| data.train.label(index) == index * 2), "one of each even class");
    assert_eq!(open(&root).unwrap().classes().len(), 500);
    let index = load_classes(root.join("imagenet_class_index.json")).unwrap();
    assert_eq!(index.ids, Classes::imagenet().ids);
    assert!(find_duplicates(&data.train, |_, _| {}).is_empty());
}
