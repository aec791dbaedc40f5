package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADataDirectoryThatIsNotThereIsSaidWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "holdfast.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "data_dir = %q\n", filepath.Join(dir, "none")), 0o600); err != nil {
		t.Fatal(err)
	}
	code, text := said(t, "", "site", "init", "--config", file, "--name", "box-0", "--peer", "127.0.0.1:7400")
	if code != exitFailed || !strings.Contains(text, "mkdir -m 700 "+filepath.Join(dir, "none")) {
		t.Errorf("%d, %s", code, text)
	}
}
