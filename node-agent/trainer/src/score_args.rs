//! The command line of `trainer score`.

use std::io::{BufWriter, stdout};
use std::path::PathBuf;

use clap::ValueEnum;
use dataset::CaptureFormat;
use tch::Device;
use trainer::scoring::write::{JsonLines, ParquetFile, Sink};
use trainer::scoring::{self, Request, ScoreError};

/// Windows at once, as in evaluation.
const BATCH_CPU: usize = 128;
const BATCH_CUDA: usize = 2048;

#[derive(clap::Args)]
#[command(after_help = "Live: candump -L can0 | trainer score --model student.pth --data -")]
pub struct ScoreArgs {
    /// What to score with: a .pth of this project, the output folder of a phase, or weights (.pth, .safetensors)
    /// together with --like.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Detectors of a fusion [default: the .pth of its student or teacher beside it].
    #[arg(long, value_name = "PATH")]
    detectors: Option<PathBuf>,
    /// Take shapes, ids, windows and thresholds from this model, only the weights from --model.
    #[arg(long, value_name = "PATH")]
    like: Option<PathBuf>,
    /// Captures (parquet, CSV, candump log); `-` reads lines of `candump -L` from stdin as they come.
    #[arg(long, required = true, num_args = 1.., value_name = "CAPTURE")]
    data: Vec<PathBuf>,
    /// Form of the captures.
    #[arg(long, value_enum, default_value = "auto")]
    format: Format,
    /// json: a line a window on stdout (or --out); parquet: a file, needs --out.
    #[arg(long, short, value_enum, default_value = "json")]
    output: Output,
    /// Write to this file.
    #[arg(long, value_name = "FILE", required_if_eq("output", "parquet"))]
    out: Option<PathBuf>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Threads of a tensor operation [default: one per core].
    #[arg(long)]
    threads: Option<u32>,
    /// Windows at once [default: 128, on a GPU 2048].
    #[arg(long)]
    batch: Option<usize>,
    /// Say nothing at the end.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Told by the content.
    Auto,
    Parquet,
    /// timestamp, arbitration_id, data_field, attack.
    CanCsv,
    /// Timestamp, ID, DLC, DATA0.., Flag.
    HcrlCsv,
    Candump,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
    Parquet,
}

fn device(text: &str) -> Result<Device, String> {
    let index = match text {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => text.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    index.map(Device::Cuda).ok_or_else(|| "use cpu, cuda or cuda:N".to_owned())
}

/// Scores; the exit code: 0, 1 for an error (told on stderr).
pub fn run(args: &ScoreArgs) -> i32 {
    let library = trainer::runtime::init();
    if let Device::Cuda(index) = args.device
        && index as i64 >= tch::Cuda::device_count()
    {
        eprintln!("error: CUDA device {index} does not answer; libtorch_cuda: {library:?}");
        return 1;
    }
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    trainer::runtime::set_threads(args.threads.unwrap_or_else(cores));
    match score(args) {
        Ok(()) => 0,
        // Whoever reads the lines has had enough of them.
        Err(error) if error.is_closed_pipe() => 0,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    }
}

fn score(args: &ScoreArgs) -> Result<(), ScoreError> {
    let batch = if args.device.is_cuda() { BATCH_CUDA } else { BATCH_CPU };
    let request = Request {
        model: args.model.clone(),
        detectors: args.detectors.clone(),
        like: args.like.clone(),
        captures: args.data.clone(),
        format: match args.format {
            Format::Auto => None,
            Format::Parquet => Some(CaptureFormat::Parquet),
            Format::CanCsv => Some(CaptureFormat::CanCsv),
            Format::HcrlCsv => Some(CaptureFormat::HcrlCsv),
            Format::Candump => Some(CaptureFormat::Candump),
        },
        device: args.device,
        batch: args.batch.unwrap_or(batch).max(1),
    };
    let mut sink: Box<dyn Sink> = match (&args.out, args.output) {
        (Some(path), Output::Parquet) => Box::new(ParquetFile::create(path)?),
        (Some(path), Output::Json) => {
            let failed = |source| ScoreError::Write { what: path.display().to_string(), source };
            Box::new(JsonLines::new(BufWriter::new(std::fs::File::create(path).map_err(failed)?)))
        }
        (None, _) => Box::new(JsonLines::new(stdout().lock())),
    };
    let summary = scoring::run(&request, &mut *sink)?;
    if !args.quiet {
        eprintln!("{summary}");
    }
    Ok(())
}
