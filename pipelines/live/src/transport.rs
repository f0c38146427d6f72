//! Which transport a camera's stream comes over: RTP inside the RTSP connection, or over UDP.

use std::fmt;

use super::config::Transport;
use gst::prelude::*;

/// How the packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn other(self) -> Self {
        match self {
            Self::Tcp => Self::Udp,
            Self::Udp => Self::Tcp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// The camera does not offer this transport: it mostly answers SETUP with 461.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub protocol: Protocol,
    /// Whether it offers neither.
    pub both: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, both } = self;
        if *both {
            return f.write_str("the camera sends neither over TCP nor over UDP");
        }
        let other = protocol.other().to_string().to_lowercase();
        write!(
            f,
            "the camera does not send over {protocol}; leave out `transport`, or try transport = \"{other}\""
        )
    }
}

impl std::error::Error for Refused {}

/// Chooses the transport of each connection to one camera. TCP comes first: packets are not lost,
/// and no firewall is in the way. What the camera takes is remembered.
#[derive(Debug)]
pub struct Choice {
    current: Protocol,
    may_change: bool,
    /// Whether the latest connection was refused, too.
    refused: bool,
}

impl Choice {
    pub fn new(transport: Transport) -> Self {
        Self {
            current: match transport {
                Transport::Auto | Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
            },
            may_change: transport == Transport::Auto,
            refused: false,
        }
    }

    /// Whether another transport may be tried.
    pub fn may_change(&self) -> bool {
        self.may_change
    }

    pub fn current(&self) -> Protocol {
        self.current
    }

    /// The camera refused the current transport. Returns whether to try another one at once.
    pub fn refused(&mut self) -> bool {
        if !self.may_change {
            return false;
        }
        self.current = self.current.other();
        self.refused = !self.refused;
        self.refused
    }

    /// A connection ended in another way.
    pub fn ended(&mut self) {
        self.refused = false;
    }
}

/// Whether an error says that a camera refused the transport. It comes from `rtspsrc`, if no stream
/// could be set up, and calls that a missing plug-in. `uridecodebin` posts it as its own, with the
/// original in its details.
pub fn is_refusal(error: &gst::message::Error) -> bool {
    let cause = error.error();
    let of_plugins = cause.matches(gst::CoreError::MissingPlugin)
        || cause.matches(gst::StreamError::CodecNotFound);
    let from_setup = |debug: glib::GString| debug.contains("gst_rtspsrc_setup_streams");
    of_plugins && error.debug().is_some_and(from_setup)
}

/// Sets the transport of an `rtspsrc`.
pub fn set(source: &gst::Element, protocol: Protocol) {
    source.set_property_from_str("protocols", &protocol.to_string().to_lowercase());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_follows_a_refusal_and_is_remembered() {
        let mut choice = Choice::new(Transport::Auto);
        assert_eq!(choice.current(), Protocol::Tcp);
        assert!(choice.refused());
        assert_eq!(choice.current(), Protocol::Udp);
        for _ in 0..3 {
            choice.ended();
            assert_eq!(choice.current(), Protocol::Udp);
        }
        // The camera was set up differently.
        assert!(choice.refused());
        assert_eq!(choice.current(), Protocol::Tcp);
    }

    #[test]
    fn a_camera_that_refuses_both_is_not_asked_without_a_pause() {
        let mut choice = Choice::new(Transport::Auto);
        let at_once: Vec<bool> = (0..4).map(|_| choice.refused()).collect();
        assert_eq!(at_once, [true, false, true, false]);
    }

    #[test]
    fn a_transport_that_was_asked_for_stays() {
        for (transport, protocol) in [
            (Transport::Tcp, Protocol::Tcp),
            (Transport::Udp, Protocol::Udp),
        ] {
            let mut choice = Choice::new(transport);
            assert!(!choice.refused());
            assert_eq!(choice.current(), protocol);
        }
        let [one, both] = [false, true].map(|both| {
            let protocol = Protocol::Tcp;
            Refused { protocol, both }.to_string()
        });
        assert!(one.contains("transport = \"udp\""), "{one}");
        assert!(!both.contains("transport ="), "{both}");
    }
}
