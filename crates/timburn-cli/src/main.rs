//! The `timburn` binary. Results go to stdout, bars and errors to stderr; exit codes: 0 ok, 1 run time, 2 usage, 3 data,
//! 4 weights, 5 non-finite training, 130 and 143 interrupted.

mod commands;
mod output;
#[cfg(feature = "serve")]
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Image classification: data, training, models, predictions.
#[derive(Parser)]
#[command(name = "timburn", version, arg_required_else_help = true)]
struct Cli {
    /// Say more on stderr: what was read, cast, found
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Demo),
    Train(commands::train::Train),
    FindLr(commands::find_lr::FindLr),
    Finetune(commands::finetune::Finetune),
    Predict(commands::predict::Predict),
    Eval(commands::eval::Eval),
    Compare(commands::compare::Compare),
    Models(commands::models::Models),
    Export(commands::export::Export),
    #[cfg(feature = "serve")]
    Serve(commands::serve::Serve),
    Data(commands::data::Data),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log_to_stderr(cli.verbose);
    let outcome = match cli.command {
        Command::Demo(demo) => demo.run(),
        Command::Predict(predict) => predict.run(),
        Command::Eval(eval) => eval.run(),
        Command::Compare(compare) => compare.run(),
        Command::Models(models) => models.run(),
        Command::Export(export) => export.run(),
        #[cfg(feature = "serve")]
        Command::Serve(serve) => serve.run(),
        Command::Data(data) => data.run(),
        Command::Train(train) => train.run(),
        Command::FindLr(find) => find.run(),
        Command::Finetune(finetune) => finetune.run(),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
