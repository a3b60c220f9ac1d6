use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use timburn_core::Result;
use timburn_data::inspect::{BadSample, ClassCount, Duplicates, Extent};
use timburn_data::picture::{ContactSheet, Tile, contact_sheet, write_png};
use timburn_data::{Dataset, DecodeOptions, DynDataset, Inspection, inspect};

use super::{parts, short_name, spread};
use crate::output;

/// Classes listed one by one; of more, the largest and the smallest are shown.
const CLASSES_SHOWN: usize = 24;
/// Bad files and groups of duplicates listed.
const SHOWN: usize = 10;

/// Count and check a data set: classes, sizes, formats, bad files, duplicates in and between its parts, mean and standard deviation.
///
/// Every picture is read and decoded. The exit code is 3 when there is one that cannot be.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data inspect flowers/
  timburn data inspect cifar-10-binary.tar.gz
  timburn data inspect flowers/ --sheet flowers.png     also draw some pictures of each class
  timburn data inspect flowers/ --json | jq .train.bad")]
pub(crate) struct Inspect {
    /// The data set
    #[arg(value_name = "DATA")]
    path: PathBuf,
    /// Draw a contact sheet of the training set, replaced if it is there
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Threads that decode [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print JSON: {"train": {...}, "validation": {...}, "test": {...}, "shared": [...]}
    #[arg(long)]
    json: bool,
    /// No bar
    #[arg(long, short)]
    quiet: bool,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<u8> {
        let splits = timburn_data::open(&self.path)?;
        let parts = parts(&splits);
        let total: usize = parts.iter().map(|(_, part)| part.len()).sum();
        let threads = self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        let bar = if self.quiet {
            indicatif::ProgressBar::hidden()
        } else {
            output::bar(total as u64, "{bar:30} {pos}/{len} pictures, {rate}, {eta} left")
        };
        // Evaluation and training differ in what they do with EXIF; what can be decoded does not depend on it.
        let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
        let found: Vec<(&str, Inspection)> =
            parts.iter().map(|(name, part)| (*name, inspect(part, &options, threads, &|| bar.inc(1)))).collect();
        bar.finish_and_clear();
        if let Some(path) = &self.sheet {
            self.draw(&splits.train, path)?;
        }
        let shared = self.shared(&parts, &found);
        output::results(|out| {
            if self.json {
                let mut object: serde_json::Map<String, serde_json::Value> = found
                    .iter()
                    .map(|(name, inspection)| Ok(((*name).to_owned(), serde_json::to_value(inspection)?)))
                    .collect::<io::Result<_>>()?;
                object.insert("shared".into(), serde_json::to_value(&shared)?);
                serde_json::to_writer_pretty(&mut *out, &object)?;
                return writeln!(out);
            }
            for (name, inspection) in &found {
                self.print(out, name, inspection)?;
            }
            print_shared(out, &shared)
        })?;
        Ok(if found.iter().any(|(_, inspection)| !inspection.bad.is_empty()) { 3 } else { 0 })
    }

    /// What each pair of parts has in common.
    fn shared(&self, parts: &[(&'static str, DynDataset)], found: &[(&str, Inspection)]) -> Vec<Shared> {
        let mut all = Vec::new();
        for (second, (name, theirs)) in found.iter().enumerate() {
            for (first, (before, own)) in found.iter().enumerate().take(second) {
                let name_of = |part: usize, index: usize| short_name(&parts[part].1.name(index), &self.path);
                let pairs = own.shared_with(theirs);
                let pairs = pairs.into_iter().map(|(own, index)| [name_of(first, own), name_of(second, index)]).collect();
                all.push(Shared { parts: [(*before).to_owned(), (*name).to_owned()], samples: theirs.samples, pairs });
            }
        }
        all
    }

    fn print(&self, out: &mut dyn Write, name: &str, found: &Inspection) -> io::Result<()> {
        let (classes, megabytes) = (found.classes.len(), found.bytes as f64 / 1e6);
        writeln!(out, "{name}: {} pictures, {classes} classes, {megabytes:.1} MB", found.samples)?;
        print_classes(out, &found.classes)?;
        let formats: Vec<String> = found.formats.iter().map(|(format, count)| format!("{format} {count}")).collect();
        let sizes: Vec<String> = found.sizes.iter().map(|size| format!("{}×{} ({})", size.width, size.height, size.samples)).collect();
        let extent = |Extent { min, median, max }: Extent| format!("{min} to {max}, median {median}");
        let channels = |[r, g, b]: [f64; 3]| format!("{r:.4} {g:.4} {b:.4}");
        for (label, value) in [
            ("formats", formats.join(", ")),
            ("width", extent(found.width)),
            ("height", extent(found.height)),
            ("sizes", sizes.join(", ")),
            ("mean", channels(found.mean)),
            ("std", channels(found.std)),
        ] {
            writeln!(out, "  {label:11} {value}")?;
        }
        self.print_bad(out, &found.bad)?;
        self.print_duplicates(out, &found.duplicates)?;
        writeln!(out)
    }

    fn print_bad(&self, out: &mut dyn Write, bad: &[BadSample]) -> io::Result<()> {
        writeln!(out, "  {:11} {}", "bad files", if bad.is_empty() { "none".into() } else { bad.len().to_string() })?;
        for sample in bad.iter().take(SHOWN) {
            writeln!(out, "    {}", sample.reason)?;
        }
        more(out, bad.len())
    }

    fn print_duplicates(&self, out: &mut dyn Write, groups: &[Duplicates]) -> io::Result<()> {
        let pictures: usize = groups.iter().map(|group| group.names.len()).sum();
        let conflicting = groups.iter().filter(|group| group.labels_differ).count();
        let summary = match (groups.len(), conflicting) {
            (0, _) => "none".into(),
            (count, 0) => format!("{pictures} pictures in {count} groups of equal content"),
            (count, conflicting) => format!("{pictures} pictures in {count} groups of equal content; in {conflicting} the labels differ"),
        };
        writeln!(out, "  {:11} {summary}", "duplicates")?;
        // Wrong labels first.
        let order = groups.iter().filter(|group| group.labels_differ).chain(groups.iter().filter(|group| !group.labels_differ));
        for group in order.take(SHOWN) {
            let names: Vec<String> = group.names.iter().take(4).map(|name| short_name(name, &self.path)).collect();
            let rest = if group.names.len() > 4 { " = …" } else { "" };
            writeln!(out, "    {}{rest}{}", names.join(" = "), if group.labels_differ { "  (labels differ)" } else { "" })?;
        }
        more(out, groups.len())
    }

    /// Some pictures of each class, a row for each of the first classes.
    fn draw(&self, train: &dyn Dataset, path: &Path) -> Result<()> {
        const COLUMNS: usize = 8;
        const ROWS: usize = 40;
        let mut by_class = vec![Vec::new(); train.classes().len()];
        for index in 0..train.len() {
            if let Some(members) = by_class.get_mut(train.label(index)) {
                members.push(index);
            }
        }
        let shown = by_class.len().min(ROWS);
        // Training does not apply EXIF orientation either.
        let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
        let mut tiles = Vec::new();
        for (class, members) in by_class.iter().enumerate().take(shown) {
            // Twice as many as fit: bad files leave no hole.
            let pictures = spread(members.len(), 2 * COLUMNS).filter_map(|position| {
                let name = train.name(members[position]);
                let image = train.read(members[position]).and_then(|content| content.decode(&name, &options)).ok()?;
                let file = Path::new(&name).file_name().map_or_else(|| name.clone(), |file| file.to_string_lossy().into_owned());
                Some(Tile { image, caption: vec![train.classes().name(class).unwrap_or_default().to_owned(), file], frame: None })
            });
            tiles.extend(pictures.step_by(if members.len() >= 2 * COLUMNS { 2 } else { 1 }).take(COLUMNS));
        }
        let title = format!("{}: {} pictures, {} classes", self.path.display(), train.len(), by_class.len());
        let layout = ContactSheet { title, columns: COLUMNS, tile: 128 };
        write_png(&contact_sheet(&tiles, &layout), path)
    }
}

/// Pictures that are in two parts of a data set.
#[derive(Serialize)]
struct Shared {
    parts: [String; 2],
    /// Samples of the second part.
    #[serde(skip)]
    samples: usize,
    /// Names in the first and in the second.
    pairs: Vec<[String; 2]>,
}

fn print_shared(out: &mut dyn Write, shared: &[Shared]) -> io::Result<()> {
    for Shared { parts: [first, second], samples, pairs } in shared {
        let count = if pairs.is_empty() { "none".to_owned() } else { format!("{} of the {second}'s {samples} pictures", pairs.len()) };
        writeln!(out, "in {first} and {second}: {count}")?;
        pairs.iter().take(SHOWN).try_for_each(|[own, other]| writeln!(out, "    {own} = {other}"))?;
        more(out, pairs.len())?;
    }
    Ok(())
}

fn print_classes(out: &mut dyn Write, classes: &[ClassCount]) -> io::Result<()> {
    let largest = classes.iter().map(|class| class.samples).max().unwrap_or(1).max(1);
    let width = classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).min(40);
    let line = |out: &mut dyn Write, class: &ClassCount| {
        let bar = "█".repeat((class.samples * 30).div_ceil(largest));
        writeln!(out, "    {:width$} {:>8}  {bar}", class.name, class.samples)
    };
    if classes.len() <= CLASSES_SHOWN {
        return classes.iter().try_for_each(|class| line(out, class));
    }
    let mut sorted: Vec<&ClassCount> = classes.iter().collect();
    sorted.sort_by_key(|class| std::cmp::Reverse(class.samples));
    let (first, rest) = sorted.split_at(CLASSES_SHOWN / 2);
    let (middle, last) = rest.split_at(rest.len() - CLASSES_SHOWN / 2);
    first.iter().try_for_each(|class| line(out, class))?;
    writeln!(out, "    … {} more classes …", middle.len())?;
    last.iter().try_for_each(|class| line(out, class))
}

fn more(out: &mut dyn Write, count: usize) -> io::Result<()> {
    if count > SHOWN { writeln!(out, "    … {} more (--json lists all)", count - SHOWN) } else { Ok(()) }
}
