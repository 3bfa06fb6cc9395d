package jobs

import "github.com/kirizan/kitt-agent/internal/base"

// maxRecord is the longest command.json and job.json that is written, and so the
// longest that is read into memory at once, in bytes.
const maxRecord = 4 << 20

func writeJSON(path string, v any) error { return base.WriteJSON(path, v, maxRecord) }

func readJSON(path string, v any) error { return base.ReadJSON(path, v, maxRecord) }
