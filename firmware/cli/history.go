package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// printMembersOf prints the member set of an epoch, as a site.json has it.
func printMembersOf(ctx context.Context, s *streams, b *remote.Box, epoch uint64) error {
	m, err := b.MembersOf(ctx, epoch)
	if err != nil {
		return err
	}
	return printJSON(s.out, m)
}

// printHistory says how the site's boxes became those of now.
func printHistory(ctx context.Context, s *streams, b *remote.Box, asJSON bool) error {
	c, err := b.MembersHistory(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.out, c)
	}
	if c.From == nil {
		return nil
	}
	t := table(s.out)
	fmt.Fprintln(t, "EPOCH\tFROM HEIGHT\tBOXES\tMAY FAIL\tSIGNED BY\tWHAT CHANGED")
	fmt.Fprintf(t, "%d\t\t%d\t%d\t\tthe first that this box knows\n", c.From.Epoch, c.From.N(), coord.MaxFaulty(c.From.N()))
	before := c.From
	for i := range c.Steps {
		x := &c.Steps[i]
		if x.Next == nil {
			break
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d of %d\t%s\n", x.Next.Epoch, x.Height+1, x.Next.N(), coord.MaxFaulty(x.Next.N()), len(x.Sigs), before.N(),
			memberChanges(before, x.Next))
		before = x.Next
	}
	return t.Flush()
}

// memberChanges says what one member set has that the one before had not.
func memberChanges(old, now *coord.Members) string {
	var what []string
	for i := range now.List {
		if b := &now.List[i]; old.Index(b.ID) < 0 {
			what = append(what, fmt.Sprintf("+%s %v", b.Name, b.ID))
		}
	}
	for i := range old.List {
		if b := &old.List[i]; now.Index(b.ID) < 0 {
			what = append(what, fmt.Sprintf("-%s %v", b.Name, b.ID))
		}
	}
	if len(what) == 0 {
		return "names or addresses"
	}
	return strings.Join(what, ", ")
}
