//! Captures to ready graph arrays, beside the plain decoding of the same files as the limit:
//! `cargo bench -p dataset --bench prepare`, with `COORD_BENCH_DATA` = the folder of a dataset (else sample captures
//! are made). Parquet captures are measured once more as CSV.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dataset::{
    CaptureFormat, Layout, NodeEncoding, PrepareConfig, PrepareTuning, ProfileConfig, ReadOptions,
    SampleConfig, WindowConfig, layout, prepare, read_capture, sample,
};
use rayon::prelude::*;

const ROUNDS: usize = 5;

fn main() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let found = std::env::var_os("COORD_BENCH_DATA").map(PathBuf::from).unwrap_or_else(|| {
        let made = scratch.path().join("made");
        sample::write(&SampleConfig::default(), &made).expect("sample captures");
        let mut inside = fs::read_dir(&made).expect("samples").map(|entry| entry.expect("entry").path());
        inside.find(|path| path.is_dir()).expect("a dataset of samples")
    });
    let captures = layout_of(&found);
    measure("as found", &captures);
    if captures.captures().any(|file| file.format == CaptureFormat::Parquet) {
        let copy = scratch.path().join("csv");
        write_csv(&captures, &copy);
        measure("as CSV", &layout_of(&copy));
    }
}

fn layout_of(folder: &Path) -> Layout {
    let folder = fs::canonicalize(folder).expect("the folder of captures");
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    layout::find(folder.parent().unwrap_or(Path::new("/")), &name).expect("captures")
}

fn measure(form: &str, captures: &Layout) {
    rate(&format!("{form}: decode"), || {
        let files: Vec<_> = captures.captures().collect();
        let read = files.par_iter().map(|file| {
            read_capture(file, &ReadOptions::default(), &mut |_| Ok(())).expect("a readable capture").rows
        });
        read.sum()
    });
    let profile =
        WindowConfig { nodes: NodeEncoding::Profile(ProfileConfig::default()), ..WindowConfig::default() };
    let encodings = [
        ("ids", PrepareConfig::default()),
        ("profile", PrepareConfig { window: profile, ..PrepareConfig::default() }),
        (
            "profile, 2 varied copies",
            PrepareConfig { window: profile, varied_copies: 2, ..PrepareConfig::default() },
        ),
    ];
    for (encoding, config) in encodings {
        rate(&format!("{form}: graphs, {encoding}"), || {
            let rows = AtomicU64::new(0);
            let note = |progress: dataset::Progress| {
                rows.fetch_max(progress.rows, Ordering::Relaxed);
            };
            prepare(captures, &config, &PrepareTuning::default(), &note).expect("graphs");
            rows.into_inner()
        });
    }
}

/// Median rate of some rounds behind one to warm up; `work` gives the messages it read.
fn rate(what: &str, work: impl Fn() -> u64) {
    let mut rates: Vec<(f64, f64)> = (0..=ROUNDS)
        .map(|_| {
            let (began, cpu) = (Instant::now(), cpu_s());
            let rows = work() as f64;
            (rows / began.elapsed().as_secs_f64() / 1e6, rows / (cpu_s() - cpu) / 1e6)
        })
        .skip(1)
        .collect();
    let mut median = |by: fn(&(f64, f64)) -> f64| {
        rates.sort_by(|a, b| by(a).total_cmp(&by(b)));
        by(&rates[ROUNDS / 2])
    };
    let (wall, cpu) = (median(|r| r.0), median(|r| r.1));
    println!("{what:40} {wall:6.2} M messages/s, {cpu:6.2} M per CPU second");
}

/// User and system time of this process, in hundredths as the kernel tells it.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("a Linux kernel");
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |place: usize| -> f64 {
        behind_name
            .split_whitespace()
            .nth(place)
            .and_then(|text| text.parse().ok())
            .expect("a number of ticks")
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn write_csv(captures: &Layout, folder: &Path) {
    for file in captures.captures() {
        let path = folder.join(&file.folder).join(format!("{}.csv", file.name));
        fs::create_dir_all(path.parent().expect("a folder of its own")).expect("a folder");
        let mut out = BufWriter::new(File::create(path).expect("a file"));
        writeln!(out, "timestamp,arbitration_id,data_field,attack").expect("written");
        let copied = read_capture(file, &ReadOptions::default(), &mut |frames| {
            for row in 0..frames.len() {
                let data: String = frames.payload[row][..frames.len[row] as usize]
                    .iter()
                    .map(|byte| format!("{byte:02X}"))
                    .collect();
                let (time, id, label) = (frames.timestamp_s[row], frames.id[row], frames.label[row]);
                writeln!(out, "{time:.6},{id:03X},{data},{label}").expect("written");
            }
            Ok(())
        });
        copied.expect("a readable capture");
    }
}
