//! The `timburn` binary. Results go to stdout, bars and errors to stderr; exit codes: 0 ok, 1 run time, 2 usage, 3 data,
//! 4 weights, 5 non-finite training, 130 and 143 interrupted.

mod advice;
mod commands;
mod interrupt;
mod output;
#[cfg(feature = "serve")]
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

const HELP: &str = "\
Examples:
  timburn demo                                     train a classifier now, offline
  timburn predict dog.jpg                          what is in the picture?
  timburn finetune flowers/                        make a classifier of a folder of pictures
  timburn predict rose.jpg --weights runs/finetune-flowers/model.timburn
  timburn serve runs/finetune-flowers/model.timburn     a page to drop pictures on
  timburn doctor                                   check devices, caches and data

Exit codes:
  0  ok
  1  run-time failure
  2  usage or configuration
  3  data
  4  weights
  5  training gave numbers that are not finite
  130, 143  interrupted by SIGINT (Ctrl-C), SIGTERM

Results go to stdout, one JSON value with --json; bars, notes and errors to stderr. NO_COLOR and CLICOLOR are heeded; off a terminal \
there are no bars. `timburn VERB --help` has examples of every verb.";

/// Image classification: data, training, models, predictions.
#[derive(Parser)]
#[command(name = "timburn", version, arg_required_else_help = true, after_help = HELP)]
struct Cli {
    /// Say more on stderr: what was read, cast, found
    #[arg(long, short, global = true, display_order = 900)]
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
    Bench(commands::bench::Bench),
    Doctor(commands::doctor::Doctor),
    Completions(commands::completions::Completions),
    Man(commands::man::Manual),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log_to_stderr(cli.verbose);
    if let Some(kernels) = timburn_infer::CpuKernels::detect()
        && let Some(refused) = kernels.refused
        // It says so itself.
        && !matches!(cli.command, Command::Doctor(_))
    {
        log::warn!("TIMBURN_CPU={refused} has no effect: expected one of {}", kernels.available.join(", "));
    }
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
        Command::Bench(bench) => bench.run(),
        Command::Train(train) => train.run(),
        Command::FindLr(find) => find.run(),
        Command::Finetune(finetune) => finetune.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Completions(completions) => completions.run(Cli::command()),
        Command::Man(man) => man.run(Cli::command()),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::failure(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
