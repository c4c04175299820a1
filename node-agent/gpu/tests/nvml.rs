//! The NVML probe against a driver library made for the test: the real calls, cards from a file.

use common::units::Mib;
use gpu::nvml::NvmlProbe;
use gpu::{Probe, ProcessSample};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn build(folder: &Path) -> std::path::PathBuf {
    let library = folder.join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/nvml.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-w", "-D_GNU_SOURCE", "-o"])
        .args([&library, &source])
        .status()
        .expect("a C compiler `cc` (the build of this project needs one as well)");
    assert!(built.success());
    library
}

/// One test, since the file is named by a variable of the process.
#[test]
#[expect(clippy::disallowed_methods, reason = "the library under test is loaded into this very process")]
fn cards_come_and_go_while_the_agent_runs() {
    let folder = tempfile::tempdir().unwrap();
    let library = build(folder.path());
    let script = folder.path().join("cards");
    // SAFETY: the only test of this process, before any other thread is started.
    unsafe { std::env::set_var("FAKE_NVML_FILE", &script) };
    let write = |text: &str| std::fs::write(&script, text).unwrap();
    let probe = NvmlProbe::with_library(&library);

    write("GPU-a;NVIDIA H200;143771;10;37;42=600,43=-1;ok\nGPU-b;Tesla T4;15360;3;-1;unknown;ok\n");
    let seen = probe.sample().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].id.as_str(), seen[0].model.as_str()), ("GPU-a", "NVIDIA H200"));
    assert_eq!((seen[0].total_mib, seen[0].used_mib), (Mib(143_771), Some(Mib(10))));
    assert_eq!(seen[0].utilization_percent, Some(37));
    let processes =
        vec![ProcessSample { pid: 42, used_mib: Some(Mib(600)) }, ProcessSample { pid: 43, used_mib: None }];
    assert_eq!(seen[0].processes, Some(processes));
    assert_eq!(
        (seen[1].processes.clone(), seen[1].utilization_percent),
        (None, None),
        "not told is not zero"
    );

    write("GPU-a;NVIDIA H200;143771;9000;99;;ok\nGPU-b;Tesla T4;15360;3;0;;lost\n");
    let seen = probe.sample().unwrap();
    assert_eq!(seen[0].used_mib, Some(Mib(9_000)));
    assert_eq!((seen[1].id.as_str(), seen[1].used_mib), ("GPU-b", None), "a lost card keeps its name");
    assert!(seen[1].fault.as_deref().unwrap().contains("does not answer"));

    write("GPU-a;NVIDIA H200;143771;9000;99;;ok\n");
    let seen = probe.sample().unwrap();
    assert!(seen.len() == 2 && seen[1].fault.is_some(), "a card that left the count is lost, not forgotten");

    write("broken\n");
    assert!(probe.sample().unwrap_err().to_string().contains("NVML"));
    write("GPU-a;NVIDIA H200;143771;0;0;;ok\n");
    assert!(probe.sample().unwrap()[0].fault.is_none(), "it is opened anew");

    // The listening thread had no driver while it was broken: another probe, another thread.
    let probe = NvmlProbe::with_library(&library);
    let two = |b: &str| format!("GPU-a;NVIDIA H200;143771;0;0;;xid31\nGPU-b;Tesla T4;15360;3;0;;{b}\n");
    write(&two("ok"));
    let heard = |limit: Duration| {
        let end = Instant::now() + limit;
        loop {
            let faults: Vec<Option<String>> = probe.sample().unwrap().into_iter().map(|d| d.fault).collect();
            if faults.iter().any(Option::is_some) || Instant::now() > end {
                return faults;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(heard(Duration::from_millis(300)), [None, None], "Xid 31 is a program's fault");
    write(&two("xid79").replace("xid31", "ok"));
    let faults = heard(Duration::from_secs(10));
    assert!(faults[0].is_none() && faults[1].as_deref().unwrap().contains("Xid 79"), "{faults:?}");
    write(&two("ok").replace("xid31", "ok"));
    assert!(probe.sample().unwrap()[1].fault.is_some(), "until a person says that it was mended");
}
