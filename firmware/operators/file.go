package operators

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FoundingFile is the name of the document, in a box's data directory, of the operator that the site was founded with. Boxes that have
// the same one give their word for it without being asked.
const FoundingFile = "operator.json"

// LoadFounding reads the founding operator's document of a data directory as it is: boxes compare its bytes. Nil: there is none. Errors:
// ErrDocument, or what the system says.
func LoadFounding(dir string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, FoundingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("operators: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, documentMax+1))
	if err != nil {
		return nil, fmt.Errorf("operators: %w", err)
	}
	if _, err := Decode(b); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file to go on without", f.Name(), err)
	}
	return b, nil
}
