//! Reports whether all cameras run, for programs that restart services and raise alarms.

use serde::Serialize;

use super::{CameraState, Telemetry};

#[derive(Debug, Serialize)]
pub struct Health {
    /// `ok`, or `degraded` while a camera does not run or not all frames are decoded.
    pub status: &'static str,
    /// Why it is degraded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    pub version: &'static str,
    pub uptime_seconds: f64,
    pub cameras: Vec<CameraHealth>,
}

#[derive(Debug, Serialize)]
pub struct CameraHealth {
    pub name: String,
    pub state: &'static str,
    /// `null` before the first frame.
    pub seconds_since_frame: Option<f64>,
    pub reconnects: u64,
}

impl Health {
    pub fn of(telemetry: &Telemetry) -> Self {
        let cameras = telemetry.cameras();
        let mut reasons = Vec::new();
        let idle = cameras
            .iter()
            .filter(|(_, c)| c.state() != CameraState::Running);
        let idle: Vec<&str> = idle.map(|(name, _)| name.as_str()).collect();
        if !idle.is_empty() {
            reasons.push(format!("not running: {}", idle.join(", ")));
        }
        let share = telemetry.decoded.get();
        if share < 1.0 {
            reasons.push(format!(
                "too many cameras for this machine: {:.0} % of each one's frames are decoded",
                100.0 * share
            ));
        }
        let milli = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        let camera = |(name, camera): (String, std::sync::Arc<super::Camera>)| CameraHealth {
            name,
            state: camera.state().name(),
            seconds_since_frame: (camera.frames_in() > 0)
                .then(|| milli(camera.silence().as_secs_f64())),
            reconnects: camera.reconnects.get(),
        };
        Self {
            status: if reasons.is_empty() { "ok" } else { "degraded" },
            reasons,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: milli(telemetry.uptime().as_secs_f64()),
            cameras: cameras.into_iter().map(camera).collect(),
        }
    }

    pub fn is_good(&self) -> bool {
        self.status == "ok"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_camera_that_does_not_run_is_enough() {
        let telemetry = Telemetry::new();
        assert!(Health::of(&telemetry).is_good());
        telemetry.camera("a").set_state(CameraState::Running);
        assert!(Health::of(&telemetry).is_good());
        telemetry.camera("b");
        let health = Health::of(&telemetry);
        assert!(!health.is_good());
        let json = serde_json::to_value(&health).expect("plain data");
        assert_eq!(json["status"], "degraded");
        assert_eq!(json["cameras"][1]["state"], "connecting");
        assert!(json["cameras"][1]["seconds_since_frame"].is_null());
        assert_eq!(health.reasons, ["not running: b"]);
        telemetry.remove("b");
        assert!(Health::of(&telemetry).is_good());
        telemetry.decoded.set(0.64);
        let health = Health::of(&telemetry);
        assert!(!health.is_good());
        assert!(health.reasons[0].contains("64 %"), "{:?}", health.reasons);
    }
}
