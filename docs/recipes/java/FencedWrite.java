import java.sql.DriverManager;

/** Adds to a balance so that a late write is refused: {@code JDBC_URL=… FencedWrite 42 -100}. */
final class FencedWrite {
    public static void main(String[] args) throws Exception {
        long account = Long.parseLong(args[0]);
        long amount = Long.parseLong(args[1]);
        double think = Double.parseDouble(System.getenv().getOrDefault("THINK_SECONDS", "0"));
        int[] code = {0};
        try (var database = DriverManager.getConnection(System.getenv("JDBC_URL"))) {
            // Renewed by hand, that is not at all: the lease is over after its ttl, whatever happens to this process.
            String ask = "{\"wait\":\"30s\",\"ttl\":\"1s\",\"renew\":\"manual\"}";
            Pawl.withLock("account/" + account, ask, grant -> {
                var read = database.prepareStatement("SELECT balance FROM account WHERE id = ?");
                read.setLong(1, account);
                var row = read.executeQuery();
                row.next();
                long balance = row.getLong(1) + amount;
                Thread.sleep((long) (1000 * think));
                // The token goes with the write, and the row remembers the largest. No row: a later holder has written.
                var write = database.prepareStatement(
                        "UPDATE account SET balance = ?, fence = ? WHERE id = ? AND fence <= ?");
                write.setLong(1, balance);
                write.setLong(2, grant.fencingToken());
                write.setLong(3, account);
                write.setLong(4, grant.fencingToken());
                if (write.executeUpdate() == 0) {
                    System.err.println("refused: the token " + grant.fencingToken() + " is stale");
                    code[0] = 3;
                } else {
                    System.out.println("balance " + balance);
                }
            });
        } catch (Pawl.Lost lost) {
            // The fence has decided about the write already.
            System.err.println(lost.getMessage());
        }
        System.exit(code[0]);
    }
}
