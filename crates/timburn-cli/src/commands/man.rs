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
    // roff reads ASCII.
    let text = String::from_utf8_lossy(&page);
    let ascii = |character: char| if character.is_ascii() { character.to_string() } else { format!("\\[u{:04X}]", u32::from(character)) };
    text.chars().map(ascii).collect::<String>().into_bytes()
}

/// What stands below the options, under its own headings. Indented lines stay as they are, because columns carry meaning there.
fn after_help(text: &str) -> String {
    let mut out = String::from(".nf\n");
    for line in text.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ') && heading.len() < 30) {
            Some(heading) => out.push_str(&format!(".fi\n.SH {}\n.nf\n", escaped(&heading.to_uppercase()))),
            None if line.starts_with(' ') => out.push_str(&format!("{}\n", escaped(line))),
            None if line.is_empty() => {}
            None => out.push_str(&format!(".fi\n.PP\n{}\n.nf\n", escaped(line))),
        }
    }
    out.push_str(".fi\n");
    out.replace(".nf\n.fi\n", "")
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
        let roff = after_help("Examples:\n  timburn -o \\x\n\n.SH is no request.\n\nExit codes:\n  0  ok");
        assert_eq!(roff, ".SH EXAMPLES\n.nf\n  timburn \\-o \\ex\n.fi\n.PP\n\\&.SH is no request.\n.SH EXIT CODES\n.nf\n  0  ok\n.fi\n");
    }
}
