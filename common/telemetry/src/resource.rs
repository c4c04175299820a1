//! Who is speaking, in the names of OpenTelemetry's semantic conventions.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

/// One process of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `coord`, `coord-agent` or `coord-trainer`.
    pub name: &'static str,
    /// Tells processes of one name apart: node id, attempt, or process id. Letters, digits, `_-.`.
    pub instance: String,
}

const K8S: [(&str, &str); 4] = [
    ("k8s.pod.name", "K8S_POD_NAME"),
    ("k8s.namespace.name", "K8S_NAMESPACE_NAME"),
    ("k8s.node.name", "K8S_NODE_NAME"),
    ("k8s.container.name", "K8S_CONTAINER_NAME"),
];

impl Service {
    /// `OTEL_RESOURCE_ATTRIBUTES` is honoured; the names that dashboards rest on are ours.
    pub(crate) fn resource(&self) -> Resource {
        let mut attributes = vec![
            KeyValue::new("service.namespace", "coord"),
            KeyValue::new("service.instance.id", self.instance.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ];
        let host = [("host.name", "/proc/sys/kernel/hostname"), ("host.id", "/etc/machine-id")];
        let known = host.iter().filter_map(|(name, path)| Some((*name, std::fs::read_to_string(path).ok()?)));
        let k8s = K8S.iter().filter_map(|(name, variable)| Some((*name, std::env::var(variable).ok()?)));
        for (name, value) in known.chain(k8s) {
            match value.trim() {
                "" => {}
                value => attributes.push(KeyValue::new(name, value.to_owned())),
            }
        }
        Resource::builder().with_attributes(attributes).with_service_name(self.name).build()
    }

    /// `coord-agent.n1.log`; what could leave the folder becomes `_`.
    pub(crate) fn log_file_name(&self) -> String {
        let clean = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
        format!("{}.{}.log", self.name, self.instance.chars().map(clean).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_stays_in_its_folder() {
        let service = Service { name: "coord", instance: "../n/1".to_owned() };
        assert_eq!(service.log_file_name(), "coord..._n_1.log");
    }

    #[test]
    fn a_resource_says_who_speaks() {
        let resource = Service { name: "coord-agent", instance: "n1".to_owned() }.resource();
        let value = |name: &'static str| resource.get(&name.into()).map(|v| v.to_string());
        assert_eq!(value("service.name").as_deref(), Some("coord-agent"));
        assert_eq!(value("service.namespace").as_deref(), Some("coord"));
        assert_eq!(value("service.instance.id").as_deref(), Some("n1"));
        assert!(value("service.version").is_some() && value("host.name").is_some());
    }
}
