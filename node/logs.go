package node

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
)

// maxLine bounds a line of the log that is kept.
const maxLine = 1 << 10

// keptLog hands records to the program's own log, and keeps the newest as lines for those who
// ask this node for them.
type keptLog struct {
	slog.Handler // the program's
	lines        *spread[string]
	build        func(slog.Handler) slog.Handler // adds the attributes and groups so far
}

func keepLog(to slog.Handler, lines *spread[string]) *keptLog {
	return &keptLog{to, lines, func(h slog.Handler) slog.Handler { return h }}
}

// Enabled reports whether anybody wants records of that level.
func (k *keptLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle passes a record on.
func (k *keptLog) Handle(ctx context.Context, r slog.Record) error {
	var line bytes.Buffer
	if err := k.build(slog.NewTextHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug})).Handle(ctx, r); err == nil {
		text := strings.TrimSuffix(line.String(), "\n")
		k.lines.emit(strings.ToValidUTF8(text[:min(len(text), maxLine)], "?"))
	}
	if !k.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return k.Handler.Handle(ctx, r)
}

// WithAttrs adds attributes to every record.
func (k *keptLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &keptLog{k.Handler.WithAttrs(attrs), k.lines, func(h slog.Handler) slog.Handler { return k.build(h).WithAttrs(attrs) }}
}

// WithGroup puts the attributes that follow into a group.
func (k *keptLog) WithGroup(name string) slog.Handler {
	return &keptLog{k.Handler.WithGroup(name), k.lines, func(h slog.Handler) slog.Handler { return k.build(h).WithGroup(name) }}
}
