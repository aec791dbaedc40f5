package remote

import (
	"context"
	"io"
	"net/url"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

// Crashes are how the box's program ended when nobody had asked it to, the newest first, without what it printed.
func (b *Box) Crashes(ctx context.Context) ([]crash.Report, error) {
	var got api.Crashes
	err := b.get(ctx, "/api/v1/crashes", &got)
	return got.Crashes, err
}

// Crash writes what the program printed before one of them. Errors: ErrNotFound.
func (b *Box) Crash(ctx context.Context, file string, w io.Writer) error {
	return b.Raw(ctx, CrashPath(file), w)
}

// CrashPath is the path of a crash report.
func CrashPath(file string) string { return "/api/v1/crashes/" + url.PathEscape(file) }
