package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/members"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func siteAdoptCommand() command {
	return command{
		name: "adopt", args: "FILE", about: "give this box the list of the site that it was added to by its key",
		more: `
A box that was added with ` + "`holdfast site add`" + ` or put in another's place with ` + "`holdfast site replace`" + ` does not know its site: who answers it on
the network could be anybody. FILE is the list that a box of the site prints with ` + "`holdfast members --epoch N`" + `. It must have this box's key in it.
--hash is what ` + "`holdfast site show`" + ` prints there as the hash of the list: with it, it does not matter by which way the file came. Without it, you are asked.
The box goes on by itself if it runs and waits.

Example:
  holdfast site adopt site.json --hash 3f6c...
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			p := &place{file: f.String("config", configDefault, "the box's configuration `file`"), dir: f.String("dir", "", "the box's data `directory`, where there is no configuration")}
			hash := f.String("hash", "", "take this list only: its `hash` as the site has it")
			yes := f.Bool("yes", false, "do not ask whether to go on")
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name the file with the site's list", errUsage)
				}
				return adopt(s, p, args[0], *hash, *yes, *asJSON)
			}
		},
	}
}

func adopt(s *streams, p *place, file, hash string, yes, asJSON bool) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, trust.SiteFile)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s has %s already: a box that is in a site learns of changes by itself", c.DataDir, trust.SiteFile))
	}
	if there, err := trust.HasKey(c.DataDir); err != nil || !there {
		return errors.Join(err, fmt.Errorf("%s has no key yet, so no site can have added it: start the box, and add it with the key that `holdfast identity show` prints", c.DataDir))
	}
	m, err := trust.LoadMembersFile(file)
	if err != nil {
		return err
	}
	key, err := box.OpenKey(c)
	if err != nil {
		return err
	}
	at := m.Index(key.ID())
	if at < 0 {
		return fmt.Errorf("this box, %v, is not in the list of epoch %d of site %v: add it there, and take the list of the epoch since then", key.ID(), m.Epoch, m.Site)
	}
	is := join.SiteHash(m)
	if hash != "" {
		want, err := hex.DecodeString(hash)
		if err != nil || len(want) != len(is) {
			return fmt.Errorf("%w: --hash has %d hexadecimal digits; `holdfast site show` prints it", errUsage, 2*len(is))
		}
		if coord.Digest(want) != is {
			return fmt.Errorf("the list in %s has the hash %v: it is not the one that is wanted, or the site's boxes have changed since; `holdfast site show` on a box of the site prints today's", file, is)
		}
	} else if !yes && !asJSON {
		if _, err := fmt.Fprintf(s.err, "site %v, epoch %d: %v\nhash %v\nIs that what `holdfast site show` prints on a box of the site? ", m.Site, m.Epoch, roster.SumsOf(m.N()), is); err != nil {
			return err
		}
		if err := confirm(s); err != nil {
			return err
		}
	}
	if err := trust.SaveMembers(c.DataDir, m); err != nil {
		return err
	}
	return printFounded(s, asJSON, m, &m.List[at], c.DataDir, "in")
}

// nowAdopt says what is left to do when a box was added by its key: it does not know yet.
func nowAdopt(ctx context.Context, s *streams, b *remote.Box, r *remote.Changed) error {
	o, err := b.Site(ctx)
	if err != nil {
		return err
	}
	if r.Waits != "" {
		_, err = fmt.Fprintf(s.out, "When it took effect: `holdfast members --epoch %d > site.json` here, and `holdfast site adopt site.json` on the new box.\n", o.Epoch+1)
		return err
	}
	_, err = fmt.Fprintf(s.out, `The new box does not know of it yet. Here, and then on it, with the file:
  holdfast members --epoch %d > site.json
  holdfast site adopt site.json --hash %v
Until it runs: %s
`, o.Epoch, o.SiteHash, spare(o))
	return err
}

// spare says how many boxes may be away now.
func spare(o *members.Overview) string {
	switch n := o.Up - o.Sums.Quorum; {
	case n < 0:
		return fmt.Sprintf("%d of %d boxes are reached, and %d are needed: the site waits.", o.Up, o.Sums.Boxes, o.Sums.Quorum)
	case n == 0:
		return fmt.Sprintf("%d of %d boxes are reached, and as many are needed: none of them may be away.", o.Up, o.Sums.Boxes)
	default:
		return fmt.Sprintf("%d of %d boxes are reached, and %d are needed: %d more may be away.", o.Up, o.Sums.Boxes, o.Sums.Quorum, n)
	}
}
