package etcdapi

import (
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// docs/etcd.md names every call and each field of what it asks and answers, and no other.
func TestTheTableOfCallsIsWhole(t *testing.T) {
	b, err := os.ReadFile("../../docs/etcd.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]map[string]bool{} // by call
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		call := strings.TrimSpace(cells[1])
		if said[call] == nil {
			said[call] = map[string]bool{}
		}
		for f := range strings.SplitSeq(cells[2], ",") {
			said[call][strings.TrimSpace(f)] = true
		}
	}
	services := pb.File_rpc_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			fields := said[string(m.Name())]
			for _, d := range []protoreflect.MessageDescriptor{m.Input(), m.Output()} {
				for k := range d.Fields().Len() {
					f := string(d.Fields().Get(k).Name())
					if _, there := fields[f]; !there {
						t.Errorf("%s.%s is not in the table", m.Name(), f)
					}
					if fields != nil {
						fields[f] = false
					}
				}
			}
			for f, left := range fields {
				if left {
					t.Errorf("%s has no field %q", m.Name(), f)
				}
			}
		}
	}
}
