# run.sh FOLDER: run Apache Kafka from FOLDER/lib on 127.0.0.1:9092, with its records in FOLDER/data, until Ctrl-C.
set -e
properties=$(dirname "$0")/server.properties
[ -d "$1/data" ] ||
  java -cp "$1/lib/*" kafka.tools.StorageTool format -t "$(java -cp "$1/lib/*" kafka.tools.StorageTool random-uuid)" -c "$properties"
echo "KAFKA_BROKERS=127.0.0.1:9092"
exec java -Xmx512m -cp "$1/lib/*" kafka.Kafka "$properties"
