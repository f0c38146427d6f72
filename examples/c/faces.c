/* Prints the faces of a video: faces VIDEO [GALLERY]
 * cc faces.c -o faces $(pkg-config --cflags --libs gstreamer-video-1.0) */
#include <gst/gst.h>
#include <gst/video/video.h>

static GstPadProbeReturn
on_frame (GstPad *pad, GstPadProbeInfo *info, gpointer frames)
{
  GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER (info);
  GstCustomMeta *meta = gst_buffer_get_custom_meta (buffer, "GstFaceMeta");
  GstStructure *known = meta ? gst_custom_meta_get_structure (meta) : NULL;
  guint frame = (*(guint *) frames)++;
  gpointer state = NULL;
  GstMeta *next;

  while ((next = gst_buffer_iterate_meta_filtered (buffer, &state,
                  GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE))) {
    GstVideoRegionOfInterestMeta *region = (GstVideoRegionOfInterestMeta *) next;
    const GValue *entry, *box;
    const GstStructure *face;
    const gchar *name;
    gdouble part[4], age = 0;
    guint64 track = 0;
    gchar field[32];

    if (region->roi_type != g_quark_from_static_string ("face") || !known)
      continue;
    g_snprintf (field, sizeof field, "face-%d", region->id);
    entry = gst_structure_get_value (known, field);
    if (!entry || !GST_VALUE_HOLDS_STRUCTURE (entry))
      continue;
    face = gst_value_get_structure (entry);
    box = gst_structure_get_value (face, "box");
    if (!box || !GST_VALUE_HOLDS_ARRAY (box) || gst_value_array_get_size (box) != 4)
      continue;
    /* The exact box, relative to the region's size. */
    for (guint i = 0; i < 4; i++)
      part[i] = g_value_get_double (gst_value_array_get_value (box, i));
    gst_structure_get_uint64 (face, "track", &track);
    gst_structure_get_double (face, "age", &age);
    name = gst_structure_get_string (face, "name");
    g_print ("frame %u box %.1f %.1f %.1f %.1f track %" G_GUINT64_FORMAT " age %.1f name %s\n",
        frame, region->x + part[0] * region->w, region->y + part[1] * region->h,
        part[2] * region->w, part[3] * region->h, track, age, name ? name : "-");
  }
  return GST_PAD_PROBE_OK;
}

static void
set (GstElement *pipeline, const gchar *element, const gchar *property, const gchar *value)
{
  GstElement *found = gst_bin_get_by_name (GST_BIN (pipeline), element);
  g_object_set (found, property, value, NULL);
  gst_object_unref (found);
}

int
main (int argc, char **argv)
{
  GError *error = NULL;
  guint frames = 0;

  gst_init (&argc, &argv);
  if (argc < 2) {
    g_printerr ("usage: faces VIDEO [GALLERY]\n");
    return 2;
  }
  GstElement *pipeline = gst_parse_launch ("filesrc name=file ! decodebin ! videoconvert"
      " ! videoflip video-direction=auto ! facedetector ! facetracker"
      " ! facerecognizer name=who ! faceagegender ! fakesink name=end", &error);
  if (error) {
    g_printerr ("%s\n", error->message);
    return 1;
  }
  set (pipeline, "file", "location", argv[1]);
  set (pipeline, "who", "gallery", argc > 2 ? argv[2] : NULL);
  GstElement *end = gst_bin_get_by_name (GST_BIN (pipeline), "end");
  GstPad *pad = gst_element_get_static_pad (end, "sink");
  gst_pad_add_probe (pad, GST_PAD_PROBE_TYPE_BUFFER, on_frame, &frames, NULL);
  gst_object_unref (pad);
  gst_object_unref (end);

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  GstBus *bus = gst_element_get_bus (pipeline);
  GstMessage *message = gst_bus_timed_pop_filtered (bus, GST_CLOCK_TIME_NONE,
      GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
  gboolean failed = GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
  if (failed) {
    gchar *details = NULL;
    gst_message_parse_error (message, &error, &details);
    g_printerr ("%s\n%s\n", error->message, details);
    g_free (details);
    g_error_free (error);
  }
  gst_message_unref (message);
  gst_object_unref (bus);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (pipeline);
  return failed;
}
