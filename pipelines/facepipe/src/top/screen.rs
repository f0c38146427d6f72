//! The full-screen view.

use std::io::{IsTerminal, stdout};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Table, TableState};

use super::model::{COLUMNS, Overview, Row, Scrape, sort};
use super::{History, INTERVAL, Source, process};
use crate::Outcome;
use face_parts::{address, interrupt};

/// The longest delay before a key takes effect.
const TICK: Duration = Duration::from_millis(100);

/// Shows the table until the user quits.
pub fn run(source: Source) -> Result<Outcome> {
    ensure!(
        stdout().is_terminal(),
        "standard output is not a terminal; use --once or --json"
    );
    let mut view = View::new(address::whole(&source.url));
    let scrapes = follow(source)?;
    // Also restores the terminal when this program panics.
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let outcome = loop {
        view.take(&scrapes);
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error).context("the terminal");
        }
        match view.wait() {
            Ok(true) => {}
            Ok(false) => break Ok(Outcome::Done),
            Err(error) => break Err(error),
        }
        if interrupt::requested() {
            break Ok(Outcome::Interrupted);
        }
    };
    ratatui::restore();
    outcome
}

/// Asks on a separate thread, so that keys need not wait for a program that does not answer.
fn follow(source: Source) -> Result<Receiver<Result<Scrape>>> {
    let (sender, scrapes) = mpsc::sync_channel(1);
    let work = move || {
        loop {
            let begun = Instant::now();
            if sender.send(source.scrape()).is_err() {
                return;
            }
            std::thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
        }
    };
    std::thread::Builder::new()
        .name("scrape".into())
        .spawn(work)?;
    Ok(scrapes)
}

struct View {
    url: String,
    history: History,
    overview: Option<Overview>,
    /// When the answers stopped, and why.
    away: Option<(Instant, String)>,
    column: usize,
    reverse: bool,
    table: TableState,
}

impl View {
    fn new(url: String) -> Self {
        Self {
            url,
            history: History::default(),
            overview: None,
            away: None,
            column: 0,
            reverse: false,
            table: TableState::default(),
        }
    }

    /// Takes new scrapes.
    fn take(&mut self, scrapes: &Receiver<Result<Scrape>>) {
        while let Ok(scrape) = scrapes.try_recv() {
            match scrape {
                Ok(scrape) => {
                    if self.away.take().is_some() {
                        self.history.forget();
                    }
                    self.history.add(scrape);
                    self.overview = self.history.overview();
                }
                Err(error) => {
                    let since = self
                        .away
                        .take()
                        .map_or_else(Instant::now, |(since, _)| since);
                    self.away = Some((since, format!("{error:#}")));
                }
            }
        }
        if let Some(overview) = &mut self.overview {
            sort(&mut overview.cameras, self.column, self.reverse);
        }
    }

    /// Waits for a key. Returns `false` if it ends the program.
    fn wait(&mut self) -> Result<bool> {
        if !event::poll(TICK).context("the terminal")? {
            return Ok(true);
        }
        match event::read().context("the terminal")? {
            Event::Key(key) if key.kind != KeyEventKind::Release => Ok(self.press(key)),
            _ => Ok(true),
        }
    }

    /// Returns `false` if the key ends the program.
    fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return false,
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Left => self.column = (self.column + COLUMNS.len() - 1) % COLUMNS.len(),
            KeyCode::Right => self.column = (self.column + 1) % COLUMNS.len(),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Up => self.scroll(-1),
            KeyCode::Down => self.scroll(1),
            KeyCode::PageUp => self.scroll(-10),
            KeyCode::PageDown => self.scroll(10),
            _ => {}
        }
        true
    }

    fn scroll(&mut self, rows: isize) {
        let last = self
            .overview
            .as_ref()
            .map_or(0, |o| o.cameras.len().saturating_sub(1));
        let offset = self.table.offset().saturating_add_signed(rows).min(last);
        *self.table.offset_mut() = offset;
    }

    fn draw(&mut self, frame: &mut Frame) {
        let [head, body, total, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Min(2),
            Constraint::Length(2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        if let Some(overview) = &self.overview {
            let widths = widths(overview);
            let cameras = overview
                .cameras
                .iter()
                .map(|row| row_of(row, Style::default()));
            let table = Table::new(cameras, widths)
                .header(self.columns())
                .column_spacing(2);
            frame.render_stateful_widget(table, body, &mut self.table);
            draw_total(frame, total, overview);
        }
        let keys = "q end   ← → sort   r reverse   ↑ ↓ scroll";
        let keys = Line::styled(keys, Style::default().add_modifier(Modifier::DIM));
        frame.render_widget(keys, foot);
    }

    fn head(&self) -> Text<'static> {
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let first = Line::styled(format!("facepipe top  {}", self.url), bold);
        let second = match (&self.away, &self.overview) {
            (Some((since, why)), _) => Line::styled(
                format!("no answer for {} s: {why}", since.elapsed().as_secs()),
                Style::default().fg(Color::Red).add_modifier(Modifier::BOLD),
            ),
            (None, Some(overview)) => Line::from(process(overview)),
            (None, None) => Line::from("waiting for the first answer"),
        };
        Text::from(vec![first, second])
    }

    fn columns(&self) -> ratatui::widgets::Row<'static> {
        let cells = COLUMNS.iter().enumerate().map(|(i, name)| {
            let mut style = Style::default().add_modifier(Modifier::REVERSED);
            if i == self.column {
                style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
            }
            let line = Line::from(Span::styled(*name, style)).alignment(side(i));
            Cell::from(line)
        });
        ratatui::widgets::Row::new(cells).style(Style::default().add_modifier(Modifier::REVERSED))
    }
}

/// The totals below the cameras, in the same columns.
fn draw_total(frame: &mut Frame, area: Rect, overview: &Overview) {
    let [rule, area] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new("─".repeat(usize::from(rule.width))), rule);
    let bold = Style::default().add_modifier(Modifier::BOLD);
    let table = Table::new([row_of(&overview.total, bold)], widths(overview)).column_spacing(2);
    frame.render_widget(table, area);
}

fn row_of(row: &Row, style: Style) -> ratatui::widgets::Row<'static> {
    let colour = match row.state.as_str() {
        "running" => Some(Color::Green),
        "connecting" => Some(Color::Yellow),
        "failed" => Some(Color::Red),
        _ => None,
    };
    let cells = row.cells().into_iter().enumerate().map(|(i, text)| {
        let mut style = Style::default();
        if let (1, Some(colour)) = (i, colour) {
            style = style.fg(colour);
        }
        Cell::from(Line::styled(text, style).alignment(side(i)))
    });
    ratatui::widgets::Row::new(cells).style(style)
}

/// Words are aligned left, numbers right.
fn side(column: usize) -> Alignment {
    if column < 2 {
        Alignment::Left
    } else {
        Alignment::Right
    }
}

fn widths(overview: &Overview) -> Vec<Constraint> {
    let rows: Vec<_> = overview
        .cameras
        .iter()
        .chain([&overview.total])
        .map(Row::cells)
        .collect();
    (0..COLUMNS.len())
        .map(|i| {
            let cells = rows
                .iter()
                .map(|cells| unicode_width::UnicodeWidthStr::width(&*cells[i]));
            let width = cells.max().unwrap_or(0).max(COLUMNS[i].len()).min(32);
            Constraint::Length(u16::try_from(width).unwrap_or(32))
        })
        .collect()
}
