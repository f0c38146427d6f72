//! Many cameras for a long time, with faults at random.
