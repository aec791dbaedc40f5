package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// startEtcd runs a real etcd of one node.
func startEtcd(dir string) (endpoint string, stop func(), err error) {
	c := embed.NewConfig()
	c.Dir, c.LogLevel, c.LogOutputs = dir, "panic", []string{"stderr"}
	var urls [2]url.URL
	for i := range urls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		urls[i] = url.URL{Scheme: "http", Host: l.Addr().String()}
		if err := l.Close(); err != nil {
			return "", nil, err
		}
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = urls[:1], urls[:1]
	c.ListenPeerUrls, c.AdvertisePeerUrls = urls[1:], urls[1:]
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return "", nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(20 * time.Second):
		e.Close()
		return "", nil, fmt.Errorf("etcd does not start")
	}
	return urls[0].Host, e.Close, nil
}

// side is one of the two that are compared.
type side struct {
	conn  *grpc.ClientConn
	kv    pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
	maint pb.MaintenanceClient
	clust pb.ClusterClient
	auth  pb.AuthClient

	base   int64            // the revision before the first request of the seed
	leases map[string]int64 // by name: the ids that it chose
	names  map[int64]string
	asked  string // the last request
}

func connect(endpoint string) (*side, error) {
	s := new(side)
	c, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<28)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			s.asked = fmt.Sprint(req)
			return next(ctx, method, req, reply, cc, opts...)
		}))
	if err != nil {
		return nil, err
	}
	*s = side{
		conn: c, kv: pb.NewKVClient(c), lease: pb.NewLeaseClient(c), watch: pb.NewWatchClient(c), maint: pb.NewMaintenanceClient(c),
		clust: pb.NewClusterClient(c), auth: pb.NewAuthClient(c),
	}
	return s, nil
}

func (s *side) close() { _ = s.conn.Close() }

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
