//! How tracks and detections overlap, and where that leaves a doubt.

use face_meta::geometry::Rect;

/// The overlaps (IoU) of tracks, in rows, and detections, in columns.
pub struct Overlaps {
    columns: usize,
    /// 0 for pairs that overlap too little.
    iou: Vec<f64>,
    /// How many enough overlap each has.
    of_row: Vec<u32>,
    of_column: Vec<u32>,
}

impl Overlaps {
    /// Only pairs whose overlap exceeds `least` count.
    pub fn new<'a>(
        rows: impl Iterator<Item = &'a Rect>,
        columns: impl Iterator<Item = &'a Rect>,
        least: f64,
    ) -> Self {
        let columns: Vec<&Rect> = columns.collect();
        let mut overlaps = Self {
            columns: columns.len(),
            iou: Vec::new(),
            of_row: Vec::new(),
            of_column: vec![0; columns.len()],
        };
        for row in rows {
            let mut count = 0;
            for (column, of_column) in columns.iter().zip(&mut overlaps.of_column) {
                let iou = row.iou(column);
                let enough = iou > least;
                overlaps.iou.push(if enough { iou } else { 0.0 });
                count += u32::from(enough);
                *of_column += u32::from(enough);
            }
            overlaps.of_row.push(count);
        }
        overlaps
    }

    /// `None` for a pair that overlaps too little.
    pub fn get(&self, row: usize, column: usize) -> Option<f64> {
        let iou = self.iou[row * self.columns + column];
        (iou > 0.0).then_some(iou)
    }

    /// Whether one of the two overlaps with others, too.
    pub fn is_doubtful(&self, row: usize, column: usize) -> bool {
        self.of_row[row] > 1 || self.of_column[column] > 1
    }
}
