package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// rotating is a directory with a key, and the key that is to be next.
func rotating(t *testing.T, place KeyPlace) (dir string, o KeyOptions, now, next *Identity) {
	t.Helper()
	dir = t.TempDir()
	o = KeyOptions{Place: place, TPM: func() (Sealer, error) { return openChip{}, nil }}
	now, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if next, err = OpenNext(dir, now, o); err != nil {
		t.Fatal(err)
	}
	return dir, o, now, next
}

// openChip seals nothing; it is a place.
type openChip struct{}

func (openChip) Seal(b []byte) ([]byte, error)   { return append([]byte{1}, b...), nil }
func (openChip) Unseal(b []byte) ([]byte, error) { return b[1:], nil }

func TestTheNextKeyBecomesTheKeyWhereverItIsKept(t *testing.T) {
	for _, place := range []KeyPlace{KeyInFile, KeyInTPM} {
		dir, o, now, next := rotating(t, place)
		if again, err := OpenNext(dir, now, o); err != nil || again.ID() != next.ID() || next.ID() == now.ID() {
			t.Fatalf("%s: next is %v, then %v: %v", place, next, again, err)
		}
		if next.Place() != place {
			t.Errorf("the next key is in %q, not %q", next.Place(), place)
		}
		if id, err := Open(dir, o); err != nil || id.ID() != now.ID() {
			t.Fatalf("%s: before it is taken the box is %v: %v", place, id, err)
		}
		if err := TakeNext(dir, now.ID()); err != nil {
			t.Fatal(err)
		}
		if id, err := Open(dir, o); err != nil || id.ID() != next.ID() {
			t.Fatalf("%s: after it was taken the box is %v: %v", place, id, err)
		}
		if left, err := LoadNext(dir, o); err != nil || left != nil {
			t.Errorf("%s: there is still a next key: %v, %v", place, left, err)
		}
		if was, err := FormerNames(dir); err != nil || len(was) != 1 || was[0] != now.ID() {
			t.Errorf("%s: it says it was %v: %v", place, was, err)
		}
		if err := TakeNext(dir, coord.BoxID{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: taken twice: %v", place, err)
		}
	}
}

func TestAfterACutWhileTheKeyIsTakenItIsTakenAgain(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, dir string, now *Identity){
		"before anything": func(*testing.T, string, *Identity) {},
		"the name is noted": func(t *testing.T, dir string, now *Identity) {
			if err := addFormer(dir, now.ID()); err != nil {
				t.Fatal(err)
			}
		},
		"the old key is gone": func(t *testing.T, dir string, now *Identity) {
			if err := errors.Join(addFormer(dir, now.ID()), os.Remove(filepath.Join(dir, KeyFile))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir, o, now, next := rotating(t, KeyInFile)
		cut(t, dir, now)
		if err := TakeNext(dir, now.ID()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id, err := Open(dir, o)
		was, _ := FormerNames(dir)
		if err != nil || id.ID() != next.ID() || len(was) != 1 {
			t.Errorf("%s: the box is %v and was %v: %v", name, id, was, err)
		}
	}
}

func TestAKeyThatMovedMeanwhileIsTakenToo(t *testing.T) {
	dir, o, now, next := rotating(t, KeyInFile)
	if _, err := SealKey(dir, openChip{}); err != nil {
		t.Fatal(err)
	}
	if err := TakeNext(dir, now.ID()); err != nil {
		t.Fatal(err)
	}
	if id, err := Open(dir, o); err != nil || id.ID() != next.ID() {
		t.Fatalf("the box is %v: %v", id, err)
	}
}

func TestARefusedKeyIsForgotten(t *testing.T) {
	dir, o, _, _ := rotating(t, KeyInFile)
	if err := DropNext(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := LoadNext(dir, o); err != nil || left != nil {
		t.Errorf("there is still a next key: %v, %v", left, err)
	}
}
