//! How a failure is told: what, because of what, and the way out.

use super::{Format, schema};
use serde_json::json;

/// Everything known about a failure.
pub struct Failure<'a> {
    pub message: String,
    /// Deeper causes, nearest first.
    pub causes: Vec<String>,
    pub way_out: Option<String>,
    pub exit_code: u8,
    pub verb: Option<&'a str>,
}

/// For stderr.
pub fn render(failure: &Failure<'_>, format: Format) -> String {
    if format == Format::Json {
        let body = json!({
            "message": failure.message,
            "causes": failure.causes,
            "way_out": failure.way_out,
            "exit_code": failure.exit_code,
            "verb": failure.verb,
        });
        return schema("error", body).to_string();
    }
    let mut text = format!("error: {}", failure.message);
    // An error that prints its source in its own text would say everything twice.
    let mut said = failure.message.clone();
    for cause in failure.causes.iter() {
        if !said.contains(cause.as_str()) {
            text += &format!("\n  because: {cause}");
            said = cause.clone();
        }
    }
    if let Some(way_out) = &failure.way_out {
        text += &format!("\n  way out: {way_out}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure<'static> {
        Failure {
            message: "no bus".into(),
            causes: vec!["refused: 111".into(), "111".into()],
            way_out: Some("coord local up".into()),
            exit_code: 6,
            verb: Some("plan"),
        }
    }

    #[test]
    fn people_get_the_cause_once_and_the_way_out() {
        let text = render(&failure(), Format::Table);
        assert_eq!(text, "error: no bus\n  because: refused: 111\n  way out: coord local up");
    }

    #[test]
    fn programs_get_one_object() {
        let json: serde_json::Value = serde_json::from_str(&render(&failure(), Format::Json)).unwrap();
        assert_eq!((json["schema"].as_str(), json["exit_code"].as_u64()), (Some("coord.v1.error"), Some(6)));
        assert_eq!(json["way_out"], "coord local up");
    }
}
