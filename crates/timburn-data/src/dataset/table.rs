//! Tables of pictures: CSV or TSV with a path and a label a row.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::DataError;
use timburn_core::{Classes, Result};

use super::class_map::Lookup;
use super::file_list::FileList;
use super::image_folder::PICTURE_EXTENSIONS;
use super::scan::{self, Split};
use super::{Dataset, DynDataset, Splits, malformed};

const PATH_NAMES: [&str; 10] = ["path", "file", "filename", "file_name", "filepath", "image", "image_id", "image_path", "img", "id"];
const LABEL_NAMES: [&str; 7] = ["label", "labels", "class", "class_name", "target", "category", "breed"];
const SPLIT_NAMES: [&str; 4] = ["split", "set", "subset", "partition"];

/// A column of a table, by its name in the header or by its number from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// By name; the first row is a header.
    Name(String),
    /// By number.
    Index(usize),
}

/// How a table is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// The column of paths. Default: by its name, see [`open_table`].
    pub path: Option<Column>,
    /// The column of labels. Default: by its name.
    pub label: Option<Column>,
    /// The column that says `train`, `val` or `test`. Default: one named `split`, `set`, `subset` or `partition`, if there is.
    pub split: Option<Column>,
    /// What separates columns. Default: tab, comma or semicolon, whichever the first line has most of.
    pub delimiter: Option<u8>,
    /// What relative paths start from. Default: the table's folder.
    pub root: Option<PathBuf>,
    /// The classes there may be. Default: the labels in the table (in its training rows).
    pub classes: Option<Classes>,
    /// A single class is no error. Default false.
    pub allow_one_class: bool,
}

/// A row: the bytes of its path, its label, its split, its line.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "hidden")]
pub struct Row {
    pub path: Vec<u8>,
    pub label: String,
    pub split: Option<String>,
    pub line: u64,
}

/// Opens a CSV or TSV table of pictures.
///
/// The header names the columns: `path`, `file`, `filename`, `image`, `image_id` and the like; `label`, `class`, `target`, `category` and the
/// like; optionally `split`. A table of two columns needs no header. Labels are class names, sorted bytewise; if all are integers, they are
/// sorted as such, and with [`TableOptions::classes`] they are indices into it. Paths are relative to the table's folder or
/// [`TableOptions::root`]; absolute ones and `..` are followed, as the table is the user's own word. A path without its extension (Kaggle's
/// `image_id`) is completed. Only regular files count. Without a split column all rows are the training set.
///
/// # Errors
/// [`DataError::Malformed`] with the line for what cannot be read, [`DataError::MissingFiles`] with the number of files that are not there,
/// [`DataError::UnknownClass`] with the line for a label outside the classes, [`DataError::OneClass`].
pub fn open_table(path: impl AsRef<Path>, options: &TableOptions) -> Result<Splits> {
    let path = path.as_ref();
    let rows = parse_table(path, &scan::read(path)?, options)?;
    let splits = rows.iter().map(|row| split_of(path, row)).collect::<Result<Vec<_>>>()?;
    let of = |wanted: Split| rows.iter().zip(&splits).filter(move |(_, split)| **split == wanted).map(|(row, _)| row);
    if of(Split::Train).next().is_none() {
        return Err(malformed(path, "", "rows of the training split", format!("{} rows of other splits", rows.len())));
    }
    let files = locate(path, &rows, options)?;
    let classes = options.classes.clone().unwrap_or_else(|| classes_of(of(Split::Train)));
    if classes.len() < 2 && !options.allow_one_class {
        return Err(DataError::OneClass { path: path.into(), class: classes.names.concat() }.into());
    }
    let lookup = Lookup::new(&classes);
    let part = |wanted: Split| -> Result<Option<DynDataset>> {
        let mut list = FileList::new(classes.clone());
        let mut folder: Option<&Path> = None;
        for ((row, file), _) in rows.iter().zip(&files).zip(&splits).filter(|(_, split)| **split == wanted) {
            let index = row.label.parse::<usize>().ok().filter(|index| options.classes.is_some() && *index < classes.len());
            let line = || format!("{}, line {}", path.display(), row.line);
            let label = lookup.find(&row.label).or(index).map_or_else(|| lookup.require(&row.label, line), Ok)?;
            // Runs of files of one folder share it; a table in random order of folders takes a folder a row.
            if folder != file.parent() || folder.is_none() {
                folder = file.parent();
                list.enter(folder.map(Path::to_path_buf).unwrap_or_default());
            }
            list.push(file.file_name().unwrap_or_default(), label);
        }
        Ok((!list.is_empty()).then(|| Arc::new(list.finish()) as DynDataset))
    };
    let train = part(Split::Train)?.ok_or_else(|| malformed(path, "", "rows of the training split", "none".into()))?;
    Ok(Splits { train, validation: part(Split::Validation)?, test: part(Split::Test)? })
}

fn split_of(path: &Path, row: &Row) -> Result<Split> {
    let Some(name) = &row.split else { return Ok(Split::Train) };
    let expected = "the split `train`, `val` or `test`";
    scan::split_of(name.as_bytes()).ok_or_else(|| malformed(path, &format!(", line {}", row.line), expected, format!("`{name}`")))
}

/// Names sorted bytewise, or, where all are integers, by value.
fn classes_of<'a>(rows: impl Iterator<Item = &'a Row>) -> Classes {
    let names: BTreeMap<&str, Option<u64>> = rows.map(|row| (row.label.as_str(), row.label.parse().ok())).collect();
    let mut names: Vec<(&str, Option<u64>)> = names.into_iter().collect();
    if names.iter().all(|(_, number)| number.is_some()) {
        names.sort_by_key(|(_, number)| *number);
    }
    Classes::new(names.into_iter().map(|(name, _)| name.to_owned()).collect())
}

/// The file of every row.
fn locate(path: &Path, rows: &[Row], options: &TableOptions) -> Result<Vec<PathBuf>> {
    let root = options.root.clone().or_else(|| path.parent().map(Path::to_path_buf)).unwrap_or_default();
    let mut completion: Option<&str> = None;
    let mut files = Vec::with_capacity(rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let file = root.join(path_of(&row.path));
        let complete = |extension: &str| {
            let mut name = file.clone().into_os_string();
            name.push(".");
            name.push(extension);
            Some(PathBuf::from(name)).filter(|path| path.is_file())
        };
        let found = if file.is_file() {
            Some(file.clone())
        } else if scan::has_extension(&file, &PICTURE_EXTENSIONS.map(String::from)) {
            None
        } else {
            // One table has one extension: after the first file, the first guess is right.
            completion.and_then(complete).or_else(|| {
                let extension =
                    ["jpg", "jpeg", "png", "JPG", "JPEG", "PNG", "tif", "webp"].into_iter().find(|known| complete(known).is_some());
                completion = extension.or(completion);
                extension.and_then(complete)
            })
        };
        match found {
            Some(found) => files.push(found),
            None => missing.push(format!("{} (line {})", file.display(), row.line)),
        }
    }
    if missing.is_empty() {
        return Ok(files);
    }
    let count = missing.len();
    missing.truncate(5);
    Err(DataError::MissingFiles { path: path.into(), missing: count, listed: rows.len(), first: missing }.into())
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// The rows of a table. `path` is for errors.
///
/// # Errors
/// [`DataError::Malformed`].
#[doc(hidden)]
pub fn parse_table(path: &Path, bytes: &[u8], options: &TableOptions) -> Result<Vec<Row>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let delimiter = options.delimiter.unwrap_or_else(|| guess_delimiter(bytes));
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).trim(csv::Trim::All).from_reader(bytes);
    let mut columns: Option<Columns> = None;
    let mut rows = Vec::new();
    let mut lines = Lines { bytes, done: 0, line: 1 };
    for record in reader.byte_records() {
        let record = record.map_err(|error| malformed(path, "", "a table", error.to_string()))?;
        let line = lines.at(record.position().map_or(0, csv::Position::byte) as usize);
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let (found, is_header) = Columns::find(path, &record, options)?;
                let columns = columns.insert(found);
                if is_header {
                    continue;
                }
                columns
            }
        };
        let fault = |expected: &str, found: String| malformed(path, &format!(", line {line}"), expected, found);
        let field = |column: usize, what: &str| match record.get(column) {
            Some(field) if !field.is_empty() => Ok(field),
            Some(_) => Err(fault(what, "an empty field".into())),
            None => Err(fault(&format!("{what} in column {}", column + 1), format!("{} columns", record.len()))),
        };
        let text = |column: usize, what: &str| {
            let field = field(column, what)?;
            std::str::from_utf8(field).map(str::to_owned).map_err(|error| fault("UTF-8 text", error.to_string()))
        };
        let split = columns.split.map(|column| text(column, "a split")).transpose()?;
        rows.push(Row { path: field(columns.path, "a path")?.to_vec(), label: text(columns.label, "a label")?, split, line });
    }
    if rows.is_empty() {
        return Err(malformed(path, "", "rows of path and label", "none".into()));
    }
    Ok(rows)
}

/// Line numbers of records. The csv crate's are those of the place where the record before ended: one too small after `\r\n` or a blank
/// line.
struct Lines<'a> {
    bytes: &'a [u8],
    done: usize,
    line: u64,
}

impl Lines<'_> {
    /// Line of the record that begins at or, after line ends, behind this byte; to be asked in ascending order.
    fn at(&mut self, byte: usize) -> u64 {
        let rest = self.bytes.get(byte..).unwrap_or_default();
        let until = byte + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = self.bytes.get(self.done..until).unwrap_or_default();
        // `\n`, `\r\n` or, from old Macs, `\r`; a slice never ends between the two.
        let ends = passed.iter().zip(passed.iter().skip(1).chain([&0]));
        self.line += ends.filter(|&(byte, next)| *byte == b'\n' || (*byte == b'\r' && *next != b'\n')).count() as u64;
        self.done = self.done.max(until);
        self.line
    }
}

fn guess_delimiter(bytes: &[u8]) -> u8 {
    let first = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).find(|line| !line.is_empty()).unwrap_or_default();
    let count = |delimiter: u8| first.iter().filter(|byte| **byte == delimiter).count();
    // The last of equals wins: a comma where there is nothing at all.
    [b';', b'\t', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

impl Columns {
    /// The columns, and whether the first record is a header.
    fn find(path: &Path, first: &csv::ByteRecord, options: &TableOptions) -> Result<(Self, bool)> {
        let header: Vec<String> = first.iter().map(|field| String::from_utf8_lossy(field).to_lowercase()).collect();
        let by_name: HashMap<&str, usize> = header.iter().enumerate().rev().map(|(index, name)| (name.as_str(), index)).collect();
        let known = |names: &[&str]| names.iter().find_map(|name| by_name.get(name).copied());
        let chosen = |column: &Option<Column>| match column {
            None => Ok(None),
            Some(Column::Index(index)) => Ok(Some(*index)),
            Some(Column::Name(name)) => match by_name.get(name.to_lowercase().as_str()) {
                Some(index) => Ok(Some(*index)),
                None => Err(malformed(path, ", line 1", &format!("a column `{name}`"), header.join(", "))),
            },
        };
        let named = [&options.path, &options.label, &options.split].into_iter().any(|column| matches!(column, Some(Column::Name(_))));
        let (path_column, label_column) = (chosen(&options.path)?, chosen(&options.label)?);
        let is_header = named || (known(&PATH_NAMES).is_some() && known(&LABEL_NAMES).is_some());
        let two_columns =
            header.len() == 2 && !is_header && scan::has_extension(&path_of(&first[0]), &PICTURE_EXTENSIONS.map(String::from));
        let path_column = path_column.or_else(|| known(&PATH_NAMES).filter(|_| is_header)).or(two_columns.then_some(0));
        let label_column = label_column.or_else(|| known(&LABEL_NAMES).filter(|_| is_header)).or(two_columns.then_some(1));
        let (Some(path_column), Some(label_column)) = (path_column, label_column) else {
            let expected = "a header with a path column (path, file, filename, image, image_id) and a label column (label, class, target, \
                            category), or two columns of path and label; or name the columns in the options";
            return Err(malformed(path, ", line 1", expected, header.join(", ").chars().take(120).collect()));
        };
        let split = chosen(&options.split)?.or_else(|| known(&SPLIT_NAMES).filter(|_| is_header));
        Ok((Self { path: path_column, label: label_column, split }, is_header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<(String, String, u64)>> {
        let rows = parse_table(Path::new("t.csv"), text, &TableOptions::default())?;
        Ok(rows.into_iter().map(|row| (String::from_utf8_lossy(&row.path).into_owned(), row.label, row.line)).collect())
    }

    #[test]
    fn headers_and_delimiters_are_found() {
        let expected = vec![("a, b.jpg".to_owned(), "cat".to_owned(), 2), ("c.png".to_owned(), "dog".to_owned(), 3)];
        assert_eq!(parse(b"filename,label\n\"a, b.jpg\",cat\nc.png,dog\n").unwrap(), expected);
        assert_eq!(parse(b"\xef\xbb\xbfCLASS\tx\tImage\r\ncat\t1\ta, b.jpg\r\ndog\t2\tc.png\r\n").unwrap(), expected);
        assert_eq!(parse(b"path;target\na, b.jpg;cat\nc.png;dog").unwrap(), expected);
        assert_eq!(parse(b"a.jpg,cat\n\nb.jpg,dog\n").unwrap()[1], ("b.jpg".into(), "dog".into(), 3));
    }

    #[test]
    fn faults_name_the_line() {
        let error = |text: &[u8]| parse(text).unwrap_err().to_string();
        assert!(error(b"path,label\na.jpg,cat\nb.jpg\n").contains("t.csv, line 3: expected a label in column 2, found 1 columns"));
        assert!(error(b"path,label\n,cat\n").contains("line 2: expected a path, found an empty field"));
        assert!(error(b"path,label\na.jpg,\xff\n").contains("line 2: expected UTF-8"));
        assert!(error(b"x,y,z\n1,2,3\n").contains("line 1: expected a header"));
        assert!(error(b"path,label\ra.jpg,cat\rb.jpg\r").contains("line 3"));
        assert!(error(b"path,label\r\n\r\na.jpg,cat\r\nb.jpg\r\n").contains("line 4"));
        assert!(error(b"path,label\n").contains("none"));
        assert!(error(b"").contains("none"));
    }

    #[test]
    fn columns_are_chosen_by_name_or_number() {
        let options = TableOptions { path: Some(Column::Index(2)), label: Some(Column::Index(0)), ..TableOptions::default() };
        let rows = parse_table(Path::new("t"), b"cat,9,a.jpg\n", &options).unwrap();
        assert_eq!((rows[0].path.as_slice(), rows[0].label.as_str()), (b"a.jpg".as_slice(), "cat"));
        let options = TableOptions { path: Some(Column::Name("Where".into())), label: Some(Column::Name("what".into())), ..options };
        assert_eq!(parse_table(Path::new("t"), b"what,where\ncat,a.jpg\n", &options).unwrap().len(), 1);
        let error = parse_table(Path::new("t"), b"what,who\ncat,a.jpg\n", &options).unwrap_err().to_string();
        assert!(error.contains("a column `Where`, found what, who"), "{error}");
    }

    #[test]
    fn integers_are_sorted_as_integers() {
        let rows = parse_table(Path::new("t"), b"a.jpg,10\nb.jpg,9\nc.jpg,10\n", &TableOptions::default()).unwrap();
        assert_eq!(classes_of(rows.iter()).names, ["9", "10"]);
    }
}
