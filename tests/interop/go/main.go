// The rate limit service as grpc-go sees it. TARGET is host:port, TIMED_OUT what the server itself says of a call whose time is
// over; the last line counts the cases.
//
// Messages are written by hand: no generated code.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

const (
	method    = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
	ok        = 1
	overLimit = 2
)

// Messages as bytes.
type raw struct{}

func (raw) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" }

func field(number int, value []byte) []byte {
	bytes := binary.AppendUvarint(nil, uint64(number<<3|2))
	bytes = binary.AppendUvarint(bytes, uint64(len(value)))
	return append(bytes, value...)
}

func request(domain string, users ...string) []byte {
	message := field(1, []byte(domain))
	for _, user := range users {
		entry := append(field(1, []byte("user")), field(2, []byte(user))...)
		message = append(message, field(2, field(1, entry))...)
	}
	return message
}

// The first field of every answer: a varint below 128.
func overall(answer []byte) int {
	if len(answer) < 2 || answer[0] != 8 {
		return -1
	}
	return int(answer[1])
}

var passed int

func pass(name string, condition bool, seen ...any) {
	if !condition {
		fmt.Println("failed:", name, seen)
		os.Exit(1)
	}
	passed++
	fmt.Println("passed:", name)
}

func main() {
	connection, err := grpc.NewClient(os.Getenv("TARGET"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	all, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	within := func(context context.Context, message []byte, options ...grpc.CallOption) ([]byte, error) {
		var answer []byte
		err := connection.Invoke(context, method, message, &answer, options...)
		return answer, err
	}
	ask := func(message []byte, options ...grpc.CallOption) ([]byte, error) {
		return within(all, message, options...)
	}

	answer, err := ask(request("interop", "alice"))
	pass("allowed", err == nil && overall(answer) == ok, err)
	pass("status and no message", status.Code(err) == codes.OK && status.Convert(err).Message() == "")
	answer, err = ask(request("interop", "over"))
	pass("denied", err == nil && overall(answer) == overLimit, err)
	answer, err = ask(request("interop", "later-50"))
	pass("a decision that takes a while", err == nil && overall(answer) == ok, err)
	users := make([]string, 1000)
	for at := range users {
		users[at] = fmt.Sprintf("user-%d", at)
	}
	answer, err = ask(request("interop", users...))
	pass("a large answer", err == nil && len(answer) > 30_000, err)
	_, err = ask(request("", "alice"))
	pass("an error with its words", status.Code(err) == codes.InvalidArgument &&
		status.Convert(err).Message() == "domain: must not be empty", err)
	_, err = ask(request("interop", strings.Repeat("x", 100_000)))
	pass("a message too large", status.Code(err) == codes.OutOfRange, err)
	_, err = ask(request("interop", strings.Repeat("x", 1000)), grpc.UseCompressor(gzip.Name))
	pass("compression", status.Code(err) == codes.Unimplemented, err)
	short, cancelShort := context.WithTimeout(all, 100*time.Millisecond)
	_, err = within(short, request("interop", "never"))
	cancelShort()
	// Client and server both watch the time, and on a busy machine the server can be first.
	var timedOut codes.Code
	if err := timedOut.UnmarshalJSON([]byte(`"` + os.Getenv("TIMED_OUT") + `"`)); err != nil {
		panic(err)
	}
	late := status.Code(err)
	pass("a time", late == codes.DeadlineExceeded || late == timedOut, err)
	var nothing []byte
	err = connection.Invoke(all, "/envoy.service.ratelimit.v3.RateLimitService/Other", []byte{}, &nothing)
	pass("an unknown method", status.Code(err) == codes.Unimplemented, err)
	cancelled, cancelIt := context.WithCancel(all)
	time.AfterFunc(50*time.Millisecond, cancelIt)
	_, err = within(cancelled, request("interop", "never"))
	answer, after := ask(request("interop", "alice"))
	pass("after a cancelled call", status.Code(err) == codes.Canceled && after == nil && overall(answer) == ok, err)
	var group sync.WaitGroup
	var lock sync.Mutex
	right := 0
	for at := range 300 {
		group.Add(1)
		go func() {
			defer group.Done()
			user := "alice"
			if at%3 == 0 {
				user = "later-20"
			}
			answer, err := ask(request("interop", user))
			lock.Lock()
			defer lock.Unlock()
			if err == nil && overall(answer) == ok {
				right++
			}
		}()
	}
	group.Wait()
	pass("many at once", right == 300, right)
	fmt.Println(passed, "cases passed")
}
