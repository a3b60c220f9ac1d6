use clap::Args;
use clap_complete::Shell;
use timburn_core::Result;

use crate::output;

/// Print a script that completes verbs, options and paths in a shell.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn completions bash > ~/.local/share/bash-completion/completions/timburn
  timburn completions zsh > ~/.zfunc/_timburn
  timburn completions fish > ~/.config/fish/completions/timburn.fish
  timburn completions powershell >> $PROFILE
  timburn completions elvish >> ~/.config/elvish/rc.elv

New shells know the completions; make the folders first where they are missing. zsh needs `fpath+=~/.zfunc` before `compinit` in \
~/.zshrc. For this session alone: `source <(timburn completions bash)`.")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, mut command: clap::Command) -> Result<u8> {
        // Into memory first: a reader that goes away would make the generator panic.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "timburn", &mut script);
        output::results(|out| out.write_all(&script))?;
        Ok(0)
    }
}
