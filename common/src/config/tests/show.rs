//! The YAML of a job's resolved configuration.

use super::*;
use crate::config::JobConfig;
use crate::ids::Phase;

#[test]
fn a_job_configuration_reads_back_as_itself() {
    let config = flags(&["lr=0.00001", "seed=18446744073709551615", "teacher.tuning.workers=2"]).unwrap();
    for phase in Phase::ALL {
        let job = config.job(&dataset("set_01"), phase);
        let text = job.to_yaml_with_origins(&config);
        assert_eq!(JobConfig::from_yaml(&text).unwrap(), job, "{text}");
    }
}

#[test]
fn each_value_names_its_origin() {
    let text = "lr: 0.01\nteacher:\n  gat:\n    epochs: 4\n  tuning:\n    workers: 2\n";
    let config = Config::resolve(&Sources {
        files: vec![("conf/base.yaml", text)],
        env: vec![("COORD_TRAINING__MODELS__GAT__LARGE__HEADS", "4")],
        flags: vec!["threads=1"],
    })
    .unwrap();
    let text = config.job(&dataset("hcrl_sa"), Phase::Teacher).to_yaml_with_origins(&config);
    for line in [
        "dataset: \"hcrl_sa\"",
        "phase: \"teacher\"",
        "          lr: 0.01  # conf/base.yaml:1, by lr",
        "          epochs: 4  # conf/base.yaml:4",
        "          epochs: 10  # default",
        "          heads: 4  # env COORD_TRAINING__MODELS__GAT__LARGE__HEADS, by models.gat.large.heads",
        "        seed: 42  # default",
        "      window: 100  # default",
        "  workers: 2  # conf/base.yaml:6",
        "  threads: 1  # flag --set threads=1, by threads",
        "  micro_batch: null  # default",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
    }
}
