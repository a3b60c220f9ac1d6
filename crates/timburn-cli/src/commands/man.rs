use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use timburn_core::disk::{System, replace_file};
use timburn_core::{Error, Result};

use crate::output;

/// Write manual pages: timburn(1), and one for each verb.
///
/// Without --output, prints the page of timburn itself.
#[derive(Args)]
#[command(
    name = "man",
    after_help = "\
Examples:
  timburn man | man -l -                                          read it now
  timburn man -o ~/.local/share/man/man1                          then: man timburn-train
  sudo timburn man -o /usr/local/share/man/man1                   for everybody on this machine"
)]
pub(crate) struct Manual {
    /// Folder for the pages, made if it is not there; pages of that name are replaced
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Manual {
    pub(crate) fn run(&self, mut command: Command) -> Result<u8> {
        // Names of the pages, and lines that are no wider than a page.
        command = command.disable_help_subcommand(true);
        command.build();
        let Some(folder) = &self.output else {
            let text = page(&command);
            output::results(|out| out.write_all(&text))?;
            return Ok(0);
        };
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut pages = Vec::new();
        collect(&command, &mut pages);
        for (name, text) in &pages {
            let path = folder.join(name);
            replace_file(&System, &path, |out| out.write_all(text).map_err(Error::io("write", &path)))?;
        }
        output::results(|out| pages.iter().try_for_each(|(name, _)| writeln!(out, "{}", folder.join(name).display())))?;
        Ok(0)
    }
}

/// The pages of a command and of those below it, by file name.
fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    pages.push((format!("{name}.1"), page(command)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, pages);
    }
}

fn page(command: &Command) -> Vec<u8> {
    let man = Man::new(command.clone()).manual("timburn").source(concat!("timburn ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = man.render_title(&mut page);
    let _ = man.render_name_section(&mut page);
    let _ = man.render_synopsis_section(&mut page);
    let _ = man.render_description_section(&mut page);
    let _ = man.render_options_section(&mut page);
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        let _ = man.render_subcommands_section(&mut page);
    }
    if let Some(text) = command.get_after_help() {
        page.extend(after_help(&text.to_string()).into_bytes());
    }
    page
}

/// What stands below the options: paragraphs with a heading of their own each, line by line as it is, because columns carry meaning there.
fn after_help(text: &str) -> String {
    let mut out = String::from(".nf\n");
    for line in text.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ') && heading.len() < 30) {
            Some(heading) => out.push_str(&format!(".fi\n.SH {}\n.nf\n", escaped(&heading.to_uppercase()))),
            None => {
                out.push_str(&escaped(line));
                out.push('\n');
            }
        }
    }
    out.push_str(".fi\n");
    // Nothing came before the first heading.
    out.replacen(".nf\n.fi\n", "", 1)
}

/// A line as roff shows it: no escapes, no requests, and hyphens that can be copied.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_and_are_no_requests() {
        let roff = after_help("Examples:\n  timburn -o \\x\n.SH\n\nExit codes:\n  0  ok");
        assert_eq!(roff, ".SH EXAMPLES\n.nf\n  timburn \\-o \\ex\n\\&.SH\n\n.fi\n.SH EXIT CODES\n.nf\n  0  ok\n.fi\n");
    }
}
