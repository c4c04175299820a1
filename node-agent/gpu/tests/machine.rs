//! GPUs of a script and the CPU by its policy.

use gpu::nvml::NvmlProbe;
use gpu::{CpuPolicy, Machine, Probe};

#[test]
fn the_cpu_steps_in_where_there_is_no_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("gpus.json");
    let ids = |policy| -> Vec<String> {
        let samples = Machine::new(policy, Some(script.clone())).sample().unwrap();
        samples.iter().map(|s| s.id.to_string()).collect()
    };
    std::fs::write(&script, r#"{"devices": []}"#).unwrap();
    assert_eq!(ids(CpuPolicy::Auto), ["cpu"]);
    assert_eq!(ids(CpuPolicy::No), [""; 0]);
    let card =
        r#"{"devices": [{"id": "GPU-a", "kind": "gpu", "model": "x", "total_mib": 100, "used_mib": 1}]}"#;
    std::fs::write(&script, card).unwrap();
    assert_eq!(ids(CpuPolicy::Auto), ["GPU-a"]);
    assert_eq!(ids(CpuPolicy::Yes), ["GPU-a", "cpu"]);
}

#[test]
fn a_script_can_fail_and_a_wrong_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("gpus.json");
    let error = |text: &str| {
        std::fs::write(&script, text).unwrap();
        Machine::new(CpuPolicy::Yes, Some(script.clone())).sample().unwrap_err().to_string()
    };
    assert_eq!(error(r#"{"error": "NVML: unknown error"}"#), "NVML: unknown error");
    assert!(error(r#"{"cards": []}"#).contains("unknown field `cards`"));
}

#[test]
fn no_driver_is_no_gpu() {
    let probe = NvmlProbe::with_library("/nonexistent/libnvidia-ml.so.1");
    assert_eq!(probe.sample().unwrap(), []);
}
