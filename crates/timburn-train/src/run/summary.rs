//! `summary.csv`: names of the columns, then one row an epoch.

use std::path::{Path, PathBuf};

use timburn_core::disk::Disk;
use timburn_core::error::CheckpointError;
use timburn_core::{Error, Result};

use super::lines::{self, Lines};

/// The columns that every summary begins with.
const FIRST: [&str; 2] = ["epoch", "step"];

#[derive(Debug)]
pub(super) struct Summary {
    path: PathBuf,
    lines: Lines,
    /// Without those of [`FIRST`]; empty until the first row.
    columns: Vec<String>,
}

impl Summary {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let (lines, columns) = (Lines::open(path.clone())?, columns(&path)?);
        Ok(Self { path, lines, columns })
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.lines.sync()
    }

    /// Adds a row. The first one decides the columns; a later one may leave some out, and has no others.
    pub(super) fn append(&mut self, epoch: u64, step: u64, values: &[(&str, f64)]) -> Result<()> {
        if self.columns.is_empty() {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            let plain = |name: &str| !name.is_empty() && !name.contains([',', '"', '\n', '\r']);
            if let Some(name) = names.iter().find(|name| !plain(name)) {
                let expected = "a name without comma, quote or line break".into();
                return Err(Error::Argument { name: "column", value: format!("{name:?}"), expected });
            }
            self.lines.append(&[FIRST.as_slice(), &names].concat().join(","))?;
            self.columns = names.into_iter().map(str::to_owned).collect();
        }
        if let Some((name, _)) = values.iter().find(|(name, _)| !self.columns.iter().any(|column| column == name)) {
            let expected = format!("one of the columns of {}: {}", self.path.display(), self.columns.join(", "));
            return Err(Error::Argument { name: "column", value: (*name).to_owned(), expected });
        }
        let mut row = format!("{epoch},{step}");
        for column in &self.columns {
            row.push(',');
            // What was not measured, and what is no number, is an empty cell.
            if let Some((_, value)) = values.iter().find(|(name, value)| name == column && value.is_finite()) {
                row.push_str(&value.to_string());
            }
        }
        self.lines.append(&row)
    }

    /// Removes the rows after `step`.
    pub(super) fn rewind(&mut self, disk: &dyn Disk, step: u64) -> Result<()> {
        let path = self.path.clone();
        self.lines.retain(disk, |index, line| Ok(index == 0 || parse_row(&path, index, line)?.1 <= step))?;
        self.columns = columns(&self.path)?;
        Ok(())
    }
}

fn columns(path: &Path) -> Result<Vec<String>> {
    let text = text(path)?;
    let Some(header) = text.lines().next() else { return Ok(Vec::new()) };
    let mut names = header.split(',');
    if names.next() != Some(FIRST[0]) || names.next() != Some(FIRST[1]) {
        return Err(malformed(path, 0, "columns that begin with epoch,step", header));
    }
    Ok(names.map(str::to_owned).collect())
}

fn text(path: &Path) -> Result<String> {
    let mut text = String::from_utf8_lossy(&lines::read(path)?).into_owned();
    // A row that was not finished is none.
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    Ok(text)
}

fn parse_row(path: &Path, index: usize, line: &str) -> Result<(u64, u64)> {
    let mut cells = line.split(',');
    let mut number = || cells.next()?.parse().ok();
    match (number(), number()) {
        (Some(epoch), Some(step)) => Ok((epoch, step)),
        _ => Err(malformed(path, index, "a row that begins with epoch and step", line)),
    }
}

fn malformed(path: &Path, index: usize, expected: &str, found: &str) -> Error {
    let found = found.chars().take(80).collect();
    CheckpointError::Malformed { path: path.to_owned(), line: index + 1, expected: expected.to_owned(), found }.into()
}

/// One row of `summary.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryRow {
    /// Epochs completed.
    pub epoch: u64,
    /// Optimizer steps done.
    pub step: u64,
    /// Column and value, in the file's order; what was not measured is left out.
    pub values: Vec<(String, f64)>,
}

/// All rows.
pub(super) fn rows(path: &Path) -> Result<Vec<SummaryRow>> {
    let (text, columns) = (text(path)?, columns(path)?);
    let rows = text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()).map(|(index, line)| {
        let (epoch, step) = parse_row(path, index, line)?;
        let cells = columns.iter().zip(line.split(',').skip(FIRST.len()));
        let values = cells.filter_map(|(column, cell)| Some((column.clone(), cell.parse().ok()?))).collect();
        Ok(SummaryRow { epoch, step, values })
    });
    rows.collect()
}
