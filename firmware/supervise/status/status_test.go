package status

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestWhatWasWrittenIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run", "status.json")
	if _, err := Read(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a machine that is no appliance: %v", err)
	}
	s := &Status{Mode: Running, Hostname: "a", Booted: time.Unix(1, 0).UTC(), Crashes: []Crash{{File: "x.txt", How: "exit status 2"}}}
	if err := Write(file, s); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(file); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v", got, err)
	}
}
