//! One parquet file: its columns, its labels, its pictures by row group.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;
use timburn_core::panic::panic_message;
use timburn_core::{Error, Result};

use super::ParquetOptions;
use crate::dataset::malformed;

/// The pictures of a row group; `None` for a row without one.
pub(super) type Rows = Arc<Vec<Option<ByteArray>>>;

/// Largest row group read, uncompressed: more is a bomb or not meant to be read at random.
const MAX_GROUP_BYTES: u64 = 4 << 30;

/// A file whose pictures can be read.
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    column: usize,
    max_definition: i16,
}

/// A file and what is read of it at once.
pub(super) struct Opened {
    pub(super) file: ImageFile,
    /// Rows and uncompressed bytes of pictures of each row group.
    pub(super) groups: Vec<(usize, u64)>,
    pub(super) labels: Vec<u32>,
    /// Class names, where the metadata has them.
    pub(super) names: Option<Vec<String>>,
}

impl ImageFile {
    pub(super) fn open(path: &Path, options: &ParquetOptions) -> Result<Opened> {
        guarded(path, || Self::open_unguarded(path, options))
    }

    fn open_unguarded(path: &Path, options: &ParquetOptions) -> Result<Opened> {
        let reader = reader(path)?;
        let metadata = reader.metadata();
        let features = features(metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice));
        let of_type = |wanted: &str| {
            let mut typed = features.iter().flat_map(|table| table.iter()).filter(|(_, feature)| feature["_type"] == wanted);
            typed.next().map(|(name, _)| name.clone())
        };
        let columns = metadata.file_metadata().schema_descr().columns();
        let find = |name: &str| columns.iter().position(|column| column.path().string() == name);
        let all = || columns.iter().map(|column| column.path().string()).collect::<Vec<_>>().join(", ");

        let image = |name: &str| find(&format!("{name}.bytes")).or_else(|| find(name));
        let known = ["image", "img", "picture"].map(String::from);
        let image = match options.image.clone().or_else(|| of_type("Image")) {
            Some(name) => image(&name),
            None => known.iter().find_map(|name| image(name)),
        };
        let image = image.ok_or_else(|| malformed(path, "", "a column of pictures (image.bytes, img.bytes)", all()))?;
        let known = ["label", "labels", "fine_label", "class", "target"];
        let label_name = options.label.clone().or_else(|| known.iter().find(|name| find(name).is_some()).map(|name| (*name).to_owned()));
        let label_name = label_name.or_else(|| of_type("ClassLabel"));
        let label =
            label_name.as_deref().and_then(find).ok_or_else(|| malformed(path, "", "a column of labels (label, fine_label)", all()))?;
        flat(path, &columns[image], &[Type::BYTE_ARRAY])?;
        flat(path, &columns[label], &[Type::INT64, Type::INT32])?;

        let names = label_name.as_deref().and_then(|name| class_names(features.as_ref()?.get(name)?));
        let mut labels = Vec::new();
        let mut groups = Vec::new();
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let rows =
                usize::try_from(group.num_rows()).map_err(|_| malformed(path, "", "a number of rows", group.num_rows().to_string()))?;
            let bytes = u64::try_from(group.column(image).uncompressed_size()).unwrap_or(u64::MAX);
            if bytes > MAX_GROUP_BYTES {
                let at = format!(", row group {index}");
                return Err(malformed(path, &at, "at most 4 GiB of pictures in a row group", format!("{bytes} bytes")));
            }
            groups.push((rows, bytes));
            labels.extend(read_labels(path, &reader, index, label, rows, columns[label].max_def_level())?);
        }
        let file = Self { path: path.into(), column: image, max_definition: columns[image].max_def_level() };
        Ok(Opened { file, groups, labels, names })
    }

    /// The pictures of a row group.
    pub(super) fn pictures(&self, group: usize, rows: usize) -> Result<Rows> {
        guarded(&self.path, || {
            let fault = |error: ParquetError| malformed(&self.path, &format!(", row group {group}"), "pictures", error.to_string());
            let reader = reader(&self.path)?;
            let column = reader.get_row_group(group).and_then(|group| group.get_column_reader(self.column)).map_err(fault)?;
            let ColumnReader::ByteArrayColumnReader(column) = column else {
                return Err(malformed(&self.path, "", "a column of bytes", "another type".into()));
            };
            Ok(Arc::new(read_column(column, rows, self.max_definition).map_err(fault)?))
        })
    }
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    SerializedFileReader::new(file).map_err(|error| malformed(path, "", "a parquet file", error.to_string()))
}

/// The parquet crate panics on some garbled files.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |panic: Box<dyn std::any::Any + Send>| malformed(path, "", "a parquet file", panic_message(panic.as_ref()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic)))
}

/// `info.features` of the JSON that `datasets` puts into the file.
fn features(metadata: &[parquet::file::metadata::KeyValue]) -> Option<serde_json::Map<String, Value>> {
    let text = metadata.iter().find(|entry| entry.key == "huggingface")?.value.as_ref()?;
    serde_json::from_str::<Value>(text).ok()?.get("info")?.get("features")?.as_object().cloned()
}

fn class_names(feature: &Value) -> Option<Vec<String>> {
    match feature.get("names")? {
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        // `datasets` before 2.0 in README form: {"0": "cat", "1": "dog"}.
        Value::Object(names) => (0..names.len()).map(|index| names.get(&index.to_string())?.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn flat(path: &Path, column: &ColumnDescriptor, types: &[Type]) -> Result<()> {
    if column.max_rep_level() == 0 && types.contains(&column.physical_type()) {
        return Ok(());
    }
    let found = if column.max_rep_level() > 0 { "a list".into() } else { column.physical_type().to_string() };
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    Err(malformed(path, &format!(", column {}", column.path().string()), &types.join(" or "), found))
}

fn read_labels(path: &Path, reader: &SerializedFileReader<File>, group: usize, column: usize, rows: usize, max: i16) -> Result<Vec<u32>> {
    let at = format!(", row group {group}");
    let fault = |error: ParquetError| malformed(path, &at, "labels", error.to_string());
    let values: Vec<Option<i64>> = match reader.get_row_group(group).and_then(|group| group.get_column_reader(column)).map_err(fault)? {
        ColumnReader::Int64ColumnReader(column) => read_column(column, rows, max).map_err(fault)?,
        ColumnReader::Int32ColumnReader(column) => {
            read_column(column, rows, max).map_err(fault)?.into_iter().map(|value| value.map(i64::from)).collect()
        }
        _ => return Err(malformed(path, &at, "integer labels", "another type".into())),
    };
    let label = |(row, value): (usize, Option<i64>)| {
        let found = || value.map_or_else(|| "none".into(), |value| value.to_string());
        // Hugging Face marks the unknown labels of a test split by -1.
        let label = value.and_then(|value| u32::try_from(value).ok()).filter(|label| *label < 1 << 24);
        label.ok_or_else(|| malformed(path, &format!("{at}, row {row}"), "a label from 0", found()))
    };
    values.into_iter().enumerate().map(label).collect()
}

/// All rows of a column chunk; `None` where a row has no value.
fn read_column<T: DataType>(mut column: ColumnReaderImpl<T>, rows: usize, max: i16) -> parquet::errors::Result<Vec<Option<T::T>>> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let (records, _, _) = column.read_records(rows - done, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::EOF(format!("{done} of {rows} rows")));
        }
        done += records;
    }
    let mut values = values.into_iter();
    // A column that cannot be null has no levels.
    Ok(if max == 0 {
        values.map(Some).collect()
    } else {
        levels.iter().map(|level| if *level == max { values.next() } else { None }).collect()
    })
}
