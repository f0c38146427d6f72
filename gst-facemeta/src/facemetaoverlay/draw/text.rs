//! The surface of a label.

use pango::prelude::FontMapExt;

use super::*;

/// A line of text, at most `width` pixels wide.
fn text(
    context: &pango::Context,
    font: &pango::FontDescription,
    text: &str,
    width: i32,
) -> (pango::Layout, pango::Rectangle) {
    let layout = pango::Layout::new(context);
    layout.set_font_description(Some(font));
    layout.set_single_paragraph_mode(true);
    layout.set_text(text);
    if layout.pixel_extents().1.width() > width {
        layout.set_ellipsize(pango::EllipsizeMode::End);
        layout.set_width(width.max(1).saturating_mul(pango::SCALE));
    }
    let (_, extents) = layout.pixel_extents();
    (layout, extents)
}

/// A label of at most `max_width`. `None` if it would be higher than `max_height`, or too narrow
/// for text.
pub fn render_label(
    mark: &Mark,
    metrics: &Metrics,
    font: &str,
    (max_width, max_height): (i32, i32),
    pixels: PixelShape,
) -> Result<Option<Surface>, cairo::Error> {
    let pad_x = (metrics.font * 0.4).round() as i32;
    let pad_y = (metrics.font * 0.16).round() as i32;
    let room = max_width - 2 * pad_x;
    if f64::from(room) < 2.0 * metrics.font {
        return Ok(None);
    }
    let described = |size: f64, weight: Option<pango::Weight>| {
        let mut description = pango::FontDescription::from_string(font);
        description.set_absolute_size(size * f64::from(pango::SCALE));
        if let Some(weight) = weight {
            description.set_weight(weight);
        }
        description
    };
    let regular = described(metrics.font, None);
    let bold = described(metrics.font, Some(pango::Weight::Bold));
    let small = described((metrics.font * 0.88).max(6.0), None);
    let pango = pangocairo::FontMap::default().create_context();
    let Label {
        name,
        detail,
        second,
    } = &mark.label;

    // The detail after the name is shown in full if there is room for both.
    let detail = (!detail.is_empty()).then(|| text(&pango, &regular, detail, room));
    let space = (metrics.font * 0.45).round() as i32;
    let taken = detail.as_ref().map_or(0, |(_, e)| e.width() + space);
    let name = (!name.is_empty()).then(|| text(&pango, &bold, name, (room - taken).max(space)));
    let second = (!second.is_empty()).then(|| text(&pango, &small, second, room));
    let size = |part: &Option<(pango::Layout, pango::Rectangle)>| {
        part.as_ref()
            .map_or((0, 0), |(_, e)| (e.width(), e.height()))
    };
    let gap = if name.is_some() && detail.is_some() {
        space
    } else {
        0
    };
    let first = (
        size(&name).0 + gap + size(&detail).0,
        size(&name).1.max(size(&detail).1),
    );
    let width = (first.0.max(size(&second).0) + 2 * pad_x).min(max_width);
    let height = first.1 + size(&second).1 + 2 * pad_y;
    if height > max_height {
        return Ok(None);
    }

    let surface = cairo::ImageSurface::create(cairo::Format::ARgb32, width, height)?;
    let context = cairo::Context::new(&surface)?;
    let whole = Rect::new(0.0, 0.0, width.into(), height.into());
    // A predicted face has the colours swapped.
    let (fill, alpha, ink) = if mark.predicted {
        (Color::new(0.0, 0.0, 0.0), 0.75, mark.color)
    } else {
        (mark.color, 0.92, mark.color.text())
    };
    rounded_rectangle(&context, &whole, metrics.font * 0.22);
    set_color(&context, fill, alpha);
    context.fill()?;
    set_color(&context, ink, 1.0);
    let baseline = |part: &Option<(pango::Layout, pango::Rectangle)>| {
        part.as_ref()
            .map_or(0, |(layout, _)| layout.baseline() / pango::SCALE)
    };
    let line = baseline(&name).max(baseline(&detail));
    let show = |part: &Option<(pango::Layout, pango::Rectangle)>, x: i32, y: i32| {
        if let Some((layout, extents)) = part {
            context.move_to(f64::from(x - extents.x()), f64::from(y));
            pangocairo::functions::update_layout(&context, layout);
            pangocairo::functions::show_layout(&context, layout);
        }
    };
    show(&name, pad_x, pad_y + line - baseline(&name));
    show(
        &detail,
        pad_x + size(&name).0 + gap,
        pad_y + line - baseline(&detail),
    );
    show(&second, pad_x, pad_y + first.1);
    Ok(Some(finish_squeezed(context, surface, pixels)?))
}

/// What was drawn in square pixels, in pixels of the shape `pixels`. Text is squeezed as a picture: its
/// glyphs would not stay in their places.
fn finish_squeezed(
    context: cairo::Context,
    surface: cairo::ImageSurface,
    pixels: PixelShape,
) -> Result<Surface, cairo::Error> {
    if pixels.is_square() {
        return finish(context, surface);
    }
    drop(context);
    let side = |square: i32, pixel: f64| ((f64::from(square) / pixel) as i32).max(1);
    let (width, height) = (
        side(surface.width(), pixels.width),
        side(surface.height(), pixels.height),
    );
    let squeezed = cairo::ImageSurface::create(cairo::Format::ARgb32, width, height)?;
    let context = cairo::Context::new(&squeezed)?;
    context.scale(1.0 / pixels.width, 1.0 / pixels.height);
    context.set_source_surface(&surface, 0.0, 0.0)?;
    context.source().set_filter(cairo::Filter::Good);
    context.paint()?;
    finish(context, squeezed)
}
